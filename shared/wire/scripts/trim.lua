-- Drop entries before an ID, exactly, if the fence key still names the caller. The last entry stays whatever the ID says:
-- it is where a writer that comes back reads its place from.
-- KEYS: stream, fence (writer or lease)   ARGV: token, min ID
local token = redis.call('HGET', KEYS[2], 'token')
if token ~= ARGV[1] then return {'FENCED', token or ''} end
local tail = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
if not tail[1] then return {'OK', 0} end
local last, floor = tail[1][1], ARGV[2]
local last_session, last_ordinal = string.match(last, '^(%d+)-(%d+)$')
local session, ordinal = string.match(floor, '^(%d+)-(%d+)$')
last_session, session = tonumber(last_session), tonumber(session)
if session > last_session or (session == last_session and tonumber(ordinal) > tonumber(last_ordinal)) then floor = last end
return {'OK', redis.call('XTRIM', KEYS[1], 'MINID', '=', floor)}
