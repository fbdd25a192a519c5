-- How a room is numbered. This part stands, after clock.lua, before publish.lua and read.lua, which use it.
--
-- The hash KEYS[1] holds
--   epoch, offset   the position of the newest publication
--   run             the run of the server that numbered last: a restart or a failover is another run
--   earlier         "EPOCH UPTO EPOCH UPTO ...", newest first: what the positions of earlier epochs are still good for
--   first, oldest   offset and expiry of the oldest kept publication, as far as is known; oldest is 0 if none is kept
--
-- Another run may have lost the newest publications, and nobody here can tell. So it gets a new epoch in which numbers
-- go on: a position of an earlier epoch is good up to the number at which that epoch ended, and lost beyond it.

local NUMBERS, LOG = KEYS[1], KEYS[2]
local KEY_MS = 300000
local NUMBERS_MS = 86400000
local EARLIER_EPOCHS = 8
local LOOKED_AT = 64

local function new_epoch()
  local time = redis.call('TIME')
  return string.sub(redis.sha1hex(NUMBERS .. time[1] .. '.' .. time[2]), 1, 10)
end

local function earlier_epochs(epoch, offset)
  local earlier = epoch .. ' ' .. offset
  local count = 1
  for each in string.gmatch(redis.call('HGET', NUMBERS, 'earlier') or '', '%S+ %d+') do
    if count < EARLIER_EPOCHS then
      earlier = earlier .. ' ' .. each
      count = count + 1
    end
  end
  return earlier
end

-- Return the numbering of the room, begun now if there is none.
local function numbering(run)
  local found = redis.call('HMGET', NUMBERS, 'epoch', 'offset', 'run', 'first', 'oldest')
  local epoch = found[1]
  if not epoch then
    epoch = new_epoch()
    redis.call('HSET', NUMBERS, 'epoch', epoch, 'offset', 0, 'run', run, 'first', 1, 'oldest', 0)
    redis.call('DEL', LOG)
    return {epoch = epoch, offset = 0, first = 1, oldest = 0}
  end
  if run ~= '' and run ~= found[3] then
    local earlier = earlier_epochs(epoch, found[2])
    epoch = new_epoch()
    redis.call('HSET', NUMBERS, 'epoch', epoch, 'run', run, 'earlier', earlier)
  end
  return {epoch = epoch, offset = tonumber(found[2]), first = tonumber(found[4]), oldest = tonumber(found[5])}
end

-- Let go of what has expired.
local function expire(room, now)
  if room.oldest == 0 or now < room.oldest then
    return
  end
  room.first, room.oldest = room.offset + 1, 0
  repeat
    local entries = redis.call('XRANGE', LOG, '-', '+', 'COUNT', LOOKED_AT)
    local last
    for _, entry in ipairs(entries) do
      local offset, expires = string.match(entry[1], '^(%d+)-(%d+)$')
      if tonumber(expires) > now then
        redis.call('XTRIM', LOG, 'MINID', '=', entry[1])
        room.first, room.oldest = tonumber(offset), tonumber(expires)
        entries = {}
        last = nil
        break
      end
      last = offset
    end
    if last then
      redis.call('XTRIM', LOG, 'MINID', '=', (last + 1) .. '-0')
    end
  until #entries < LOOKED_AT
  redis.call('HSET', NUMBERS, 'first', room.first, 'oldest', room.oldest)
end

-- Return the offset of the oldest publication that counts as kept: the log may hold a few more.
local function kept_from(room, size)
  return math.max(room.first, room.offset - size + 1)
end

local function keep_numbers(ttl_ms)
  redis.call('PEXPIRE', NUMBERS, math.max(ttl_ms, KEY_MS) + NUMBERS_MS)
end
