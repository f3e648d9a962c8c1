-- A book worker's commit: output entry, offset and, now and then, the image pointer, in one step, fenced by its lease.
-- KEYS: out, lease, pos, img; with an image: where it is staged, and the one it drives out, if any
-- ARGV: token, expected offset, new offset, d ('' = none), image JSON ('' = none)
local token = redis.call('HGET', KEYS[2], 'token')
if token ~= ARGV[1] then return {'FENCED', token or ''} end
local offset = redis.call('HGET', KEYS[3], 'book') or '0-0'
if offset ~= ARGV[2] then
  if offset == ARGV[3] then return {'DONE', offset} end
  return {'DIVERGED', offset}
end
if ARGV[4] ~= '' then
  redis.call('XADD', KEYS[1], ARGV[3], 'd', ARGV[4])
  redis.call('HSET', KEYS[3], 'book', ARGV[3])
end
if ARGV[5] ~= '' then
  local previous = redis.call('HGET', KEYS[4], 'newest')
  if previous then redis.call('HSET', KEYS[4], 'previous', previous) end
  redis.call('HSET', KEYS[4], 'newest', ARGV[5])
  redis.call('PERSIST', KEYS[5])
  if KEYS[6] then redis.call('UNLINK', KEYS[6]) end
  local image = cjson.decode(ARGV[5])
  local older = redis.call('HGET', KEYS[3], 'book_image')
  redis.call('HSET', KEYS[3], 'book_image', image.offset)
  if older then redis.call('HSET', KEYS[3], 'book_image_prev', older) end
end
return {'OK', ARGV[3]}
