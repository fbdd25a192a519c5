-- Return the client that was lost last, and forget it; '' if there is none.
--
-- KEYS  lost, see lose.lua
-- ARGV  now in ms or '' for the server's own clock, run of the server

local now = time_ms(ARGV[1])

while true do
  local newest = redis.call('LPOP', KEYS[1])
  if not newest then
    return ''
  end
  local forgotten_at, client = string.match(newest, '^(%d+) (.*)$')
  if tonumber(forgotten_at) > now then
    return client
  end
end
