-- Set fields of a hash of the feed, if the feed's lease still names the caller.
-- KEYS: hash, lease   ARGV: token, field, value, …
local token = redis.call('HGET', KEYS[2], 'token')
if token ~= ARGV[1] then return {'FENCED', token or ''} end
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
return {'OK'}
