-- Compare-and-append to a shard's stream, fenced by its writer. See shared/wire/README.md.
-- Where the stream ends is kept beside the token: reading it off the stream would copy its last entry, 100 KB, each time.
-- KEYS: stream, writer   ARGV: token, expected last ID, new ID, d
local writer = redis.call('HMGET', KEYS[2], 'token', KEYS[1])
if writer[1] ~= ARGV[1] then return {'FENCED', writer[1] or ''} end
local last = writer[2] or '0-0'
if last ~= ARGV[2] then
  if last == ARGV[3] then return {'DONE', last} end
  return {'DIVERGED', last}
end
redis.call('XADD', KEYS[1], ARGV[3], 'd', ARGV[4])
redis.call('HSET', KEYS[2], KEYS[1], ARGV[3])
return {'OK', ARGV[3]}
