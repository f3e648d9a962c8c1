-- Compare-and-append to a shard's stream, fenced by its writer. See shared/wire/README.md.
-- KEYS: stream, writer   ARGV: token, expected last ID, new ID, d
local token = redis.call('HGET', KEYS[2], 'token')
if token ~= ARGV[1] then return {'FENCED', token or ''} end
local tail = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
local last = tail[1] and tail[1][1] or '0-0'
if last ~= ARGV[2] then
  if last == ARGV[3] then return {'DONE', last} end
  return {'DIVERGED', last}
end
redis.call('XADD', KEYS[1], ARGV[3], 'd', ARGV[4])
return {'OK', ARGV[3]}
