-- Name the feed's owner as this shard's only writer, unless a newer one has, and note where its streams end.
-- KEYS: writer, stream …   ARGV: token (epoch:random)
local old = redis.call('HGET', KEYS[1], 'token') or ''
local old_epoch = tonumber(string.match(old, '^(%d+):') or '0')
local new_epoch = tonumber(string.match(ARGV[1], '^(%d+):'))
if old_epoch > new_epoch or (old_epoch == new_epoch and old ~= ARGV[1] and old ~= '') then return {'FENCED', old} end
redis.call('HSET', KEYS[1], 'token', ARGV[1])
for i = 2, #KEYS do
  local tail = redis.call('XREVRANGE', KEYS[i], '+', '-', 'COUNT', 1)
  redis.call('HSET', KEYS[1], KEYS[i], tail[1] and tail[1][1] or '0-0')
end
return {'OK', old}
