-- Let go of what is kept of a room. Its numbers go on, and so do its idempotency keys.
--
-- KEYS  numbers, log

local offset = redis.call('HGET', KEYS[1], 'offset')
if offset then
  redis.call('HSET', KEYS[1], 'first', offset + 1, 'oldest', 0)
end
redis.call('DEL', KEYS[2])
return 1
