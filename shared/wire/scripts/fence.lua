-- Name the feed's owner as this shard's only writer, unless a newer one has.
-- KEYS: writer   ARGV: token (epoch:random)
local old = redis.call('HGET', KEYS[1], 'token') or ''
local old_epoch = tonumber(string.match(old, '^(%d+):') or '0')
local new_epoch = tonumber(string.match(ARGV[1], '^(%d+):'))
if old_epoch > new_epoch or (old_epoch == new_epoch and old ~= ARGV[1] and old ~= '') then return {'FENCED', old} end
redis.call('HSET', KEYS[1], 'token', ARGV[1])
return {'OK', old}
