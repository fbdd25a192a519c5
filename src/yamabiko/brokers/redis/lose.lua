-- Remember that a client of a user was lost.
--
-- KEYS  lost, a list: "FORGOTTEN_AT CLIENT", the time in ms since 1970; the one lost last comes first
-- ARGV  client, for how many ms it is remembered, now in ms or '' for the server's own clock, run of the server
-- Returns 1.

local LOST = KEYS[1]
local AT_MOST = 100
local client, remembered_ms, now = ARGV[1], tonumber(ARGV[2]), time_ms(ARGV[3])

for _, each in ipairs(redis.call('LRANGE', LOST, 0, -1)) do
  local forgotten_at, other = string.match(each, '^(%d+) (.*)$')
  if other == client or tonumber(forgotten_at) <= now then
    redis.call('LREM', LOST, 1, each)
  end
end
redis.call('LPUSH', LOST, string.format('%.0f ', now + remembered_ms) .. client)
redis.call('LTRIM', LOST, 0, AT_MOST - 1)
redis.call('PEXPIRE', LOST, math.max(remembered_ms, redis.call('PTTL', LOST)))
return 1
