-- Read a page of a room's history.
--
-- KEYS  numbers, log
-- ARGV  epoch and offset of the position asked for, or '' and 0 for the newest; limit; size of the history, its ttl in
--       ms, now in ms or '' for the server's own clock, run of the server or ''
-- Returns {epoch, offset, 1 if whole, {{id, {'', body}}, ...}}; the newest come newest first.

local epoch, offset, limit = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local size, ttl_ms = tonumber(ARGV[4]), tonumber(ARGV[5])
local now, run = time_ms(ARGV[6]), ARGV[7]
local room = numbering(run)
expire(room, now)
keep_numbers(ttl_ms)

-- Return up to which offset positions of an epoch are those of this room.
local function good_up_to(name)
  if name == room.epoch then
    return room.offset
  end
  for each, upto in string.gmatch(redis.call('HGET', NUMBERS, 'earlier') or '', '(%S+) (%d+)') do
    if each == name then
      return tonumber(upto)
    end
  end
  return -1
end

local first = kept_from(room, size)
local is_whole = epoch == '' or (offset <= good_up_to(epoch) and offset >= first - 1)
local entries = {}
if limit > 0 then
  if epoch == '' then
    entries = redis.call('XREVRANGE', LOG, '+', first, 'COUNT', limit)
  else
    entries = redis.call('XRANGE', LOG, is_whole and offset + 1 or first, '+', 'COUNT', limit)
  end
end

-- A log that Redis has evicted, or that others have cut, is shorter than the numbers say.
if limit > 0 and epoch ~= '' and is_whole and offset < room.offset then
  is_whole = #entries > 0 and tonumber(string.match(entries[1][1], '^%d+')) == offset + 1
end
return {room.epoch, room.offset, is_whole and 1 or 0, entries}
