-- Time-limited ownership by the broker's clock. The epoch grows by one with every change of owner; the random part of
-- the token tells two owners apart to whom a broker that lost its tail handed out the same epoch.
-- KEYS: lease   ARGV: verb (take | renew | release), owner, random (take) or token (renew, release), ttl in ms
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lease = redis.call('HMGET', KEYS[1], 'epoch', 'token', 'owner', 'until')
local epoch, token, owner, till = tonumber(lease[1] or '0'), lease[2] or '', lease[3] or '', tonumber(lease[4] or '0')
if ARGV[1] == 'take' then
  if till > now and owner ~= ARGV[2] then return {'HELD', owner, tostring(till - now)} end
  epoch = epoch + 1
  token = epoch .. ':' .. ARGV[3]
  redis.call('HSET', KEYS[1], 'epoch', epoch, 'token', token, 'owner', ARGV[2], 'until', now + tonumber(ARGV[4]))
  return {'OK', token, owner}
end
if token ~= ARGV[3] then return {'FENCED', token, owner} end
if ARGV[1] == 'renew' then
  if till <= now then return {'FENCED', token, owner} end
  redis.call('HSET', KEYS[1], 'until', now + tonumber(ARGV[4]))
  return {'OK', token, owner}
end
redis.call('HSET', KEYS[1], 'until', 0, 'token', epoch .. ':released', 'owner', '')
return {'OK', token, owner}
