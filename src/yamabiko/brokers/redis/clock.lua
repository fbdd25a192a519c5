-- What time it is. This part stands before every script that asks.

-- Return the time in ms since 1970: what was given, or with '' the server's own.
local function time_ms(given)
  if given ~= '' then
    return tonumber(given)
  end
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
