-- Drop entries before an ID, exactly, if the fence key still names the caller.
-- KEYS: stream, fence (writer or lease)   ARGV: token, min ID
local token = redis.call('HGET', KEYS[2], 'token')
if token ~= ARGV[1] then return {'FENCED', token or ''} end
return {'OK', redis.call('XTRIM', KEYS[1], 'MINID', '=', ARGV[2])}
