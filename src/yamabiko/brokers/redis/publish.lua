-- Number, keep and carry publications of one room, or find that their keys were published before.
--
-- KEYS  numbers, log, and with idempotency keys: keys, order of the keys
-- ARGV  PUBLISH or SPUBLISH, channel, size of the history or 0 for none, its ttl in ms, now in ms or '' for the server's
--       own clock, run of the server or ''; then for each publication its body and its idempotency key or ''
-- Returns {{epoch, offset}, ...}, without history {{'-', 0}, ...}.

local KNOWN, ORDER = KEYS[3], KEYS[4]
local FORGOTTEN_AT_ONCE = 16
local FIRST_BODY = 7
local verb, channel = ARGV[1], ARGV[2]
local size, ttl_ms = tonumber(ARGV[3]), tonumber(ARGV[4])
local now, run = time_ms(ARGV[5]), ARGV[6]
local room = {epoch = '-', offset = 0, first = 1, oldest = 0}
local payloads, positions = {}, {}

-- Return epoch and offset of what was published under a key, if that is still to be remembered.
local function remembered(name)
  local at, offset, epoch = string.match(redis.call('HGET', KNOWN, name) or '', '^(%d+) (%d+) (%S+)$')
  if not at then
    return nil
  end
  offset = tonumber(offset)
  if now < at + KEY_MS or (offset > 0 and offset >= kept_from(room, size)) then
    return epoch, offset
  end
  return nil
end

local function forget_some_keys()
  for _ = 1, FORGOTTEN_AT_ONCE do
    local oldest = redis.call('LINDEX', ORDER, 0)
    if not oldest or remembered(oldest) then
      return
    end
    redis.call('LPOP', ORDER)
    redis.call('HDEL', KNOWN, oldest)
  end
end

local function remember(key)
  redis.call('HSET', KNOWN, key, string.format('%.0f %.0f %s', now, room.offset, room.epoch))
  redis.call('RPUSH', ORDER, key)
end

local function keep(body)
  room.offset = room.offset + 1
  local expires = now + ttl_ms
  redis.call('XADD', LOG, 'MAXLEN', '~', size, string.format('%.0f-%.0f', room.offset, expires), '', body)
  if room.oldest == 0 then
    room.first, room.oldest = room.offset, expires
  end
end

-- Keep a publication, unless it is remembered.
local function take(body, key)
  if key ~= '' then
    local epoch, offset = remembered(key)
    if epoch then
      positions[#positions + 1] = {epoch, offset}
      return
    end
    forget_some_keys()
  end
  if size > 0 then
    keep(body)
  end
  if key ~= '' then
    remember(key)
  end
  positions[#positions + 1] = {room.epoch, room.offset}
  payloads[#payloads + 1] = string.format('%s %.0f ', room.epoch, room.offset) .. body
end

if size > 0 then
  room = numbering(run)
  expire(room, now)
end
for at = FIRST_BODY, #ARGV, 2 do
  take(ARGV[at], ARGV[at + 1])
end
if KNOWN then
  redis.call('PEXPIRE', KNOWN, math.max(ttl_ms, KEY_MS))
  redis.call('PEXPIRE', ORDER, math.max(ttl_ms, KEY_MS))
end
if size > 0 then
  redis.call('HSET', NUMBERS, 'offset', room.offset, 'first', room.first, 'oldest', room.oldest)
  redis.call('PEXPIRE', LOG, ttl_ms)
  keep_numbers(ttl_ms)
end
-- Last, so that nothing is heard which is not kept.
for _, payload in ipairs(payloads) do
  redis.call(verb, channel, payload)
end
return positions
