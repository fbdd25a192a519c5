-- Let clients come into a room and go out of it, in the order in which they are given; tell who has joined and left by it.
--
-- KEYS, ARGV  see presence.lua; ARGV goes on with each client and its member, with '' for one who goes
-- Returns 1.

local FIRST_CLIENT = 7
local has_come = false
local nodes

-- Take a client away from another node, if one has it; return what was known of it.
local function moved_from_elsewhere(client)
  nodes = nodes or redis.call('ZRANGE', NODES, 0, -1)
  for _, node in ipairs(nodes) do
    local value = node ~= OWN and redis.call('HGET', clients_of(node), client)
    if value then
      redis.call('HDEL', clients_of(node), client)
      return value
    end
  end
  return nil
end

local function come(client, value)
  local old = redis.call('HGET', clients_of(OWN), client) or moved_from_elsewhere(client)
  local user, member = user_and_member(value)
  redis.call('HSET', clients_of(OWN), client, value)
  redis.call('HINCRBY', USERS, user, 1)
  if old then
    count_out((user_and_member(old)))
  else
    has_changed(client, joined, left, member)
  end
end

take_out_the_lost()
for at = FIRST_CLIENT, #ARGV, 2 do
  local client, value = ARGV[at], ARGV[at + 1]
  if value ~= '' then
    come(client, value)
    has_come = true
  else
    local old = redis.call('HGET', clients_of(OWN), client)
    if old then
      take_out(OWN, client, old)
    end
  end
end
if has_come then
  renew_lease()
elseif redis.call('EXISTS', USERS) == 0 then
  redis.call('PEXPIRE', NODES, lease_ms)
end
tell()
return 1
