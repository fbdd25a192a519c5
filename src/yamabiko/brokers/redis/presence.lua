-- Who is in a room. This part stands before change.lua, renew.lua and look.lua, which use it.
--
-- KEYS  nodes, users
--   nodes       a sorted set: node -> when its lease ends, in ms since 1970
--   users       a hash: user -> how many clients of theirs are here
--   nodes:NODE  a hash for each node: client -> "USERBYTES USERMEMBER", the member as JSON
-- ARGV  PUBLISH or SPUBLISH, channel, node, length of its lease in ms, now in ms or '' for the server's own clock, run of
--       the server or ''
--
-- A node is called by its name and the run of the server. After a restart or a failover, which may have brought back what
-- is long over, nodes thus come anew: their members move from their old names, and what does not move ends with its lease.
--
-- All that is here expires when no node is left that renews its lease. What a node has here lives longer than what it is
-- counted in, so that it can be taken out of it.

local NODES, USERS = KEYS[1], KEYS[2]
local COUNTED_MS, KEPT_MS = 600000, 1200000
local TAKEN_OUT_AT_ONCE = 500
local EVENT_BYTES = 200000
local verb, channel, lease_ms = ARGV[1], ARGV[2], tonumber(ARGV[4])
local now, run = time_ms(ARGV[5]), ARGV[6]
local OWN = ARGV[3] .. '.' .. string.sub(run, 1, 12)
local joined, left, order = {}, {}, {}

local function clients_of(node)
  return NODES .. ':' .. node
end

local function user_and_member(value)
  local length = string.match(value, '^%d+')
  local start = #length + 2
  return string.sub(value, start, start + length - 1), string.sub(value, start + length)
end

local function count_out(user)
  if redis.call('HINCRBY', USERS, user, -1) <= 0 then
    redis.call('HDEL', USERS, user)
  end
end

-- Note that a client has joined or left, or that it is as it was before.
local function has_changed(client, this, other, member)
  if other[client] then
    other[client] = nil
  else
    this[client] = member
    order[#order + 1] = client
  end
end

local function take_out(node, client, value)
  local user, member = user_and_member(value)
  redis.call('HDEL', clients_of(node), client)
  count_out(user)
  has_changed(client, left, joined, member)
end

-- Take some of a node's members out, and the node if none is left. Return how many those are.
local function take_some_out(node, at_most)
  local count, cursor = 0, '0'
  repeat
    local page = redis.call('HSCAN', clients_of(node), cursor, 'COUNT', 100)
    cursor = page[1]
    for at = 1, #page[2], 2 do
      take_out(node, page[2][at], page[2][at + 1])
    end
    count = count + #page[2] / 2
  until cursor == '0' or count >= at_most
  if redis.call('EXISTS', clients_of(node)) == 0 then
    redis.call('ZREM', NODES, node)
  end
  return count
end

-- Take out members of nodes whose lease has ended, some at a time; return 1 if there are more. The node that asks lives.
local function take_out_the_lost()
  local count = 0
  for _, node in ipairs(redis.call('ZRANGEBYSCORE', NODES, '-inf', now)) do
    if count >= TAKEN_OUT_AT_ONCE then
      return 1
    end
    if node ~= OWN then
      count = count + take_some_out(node, TAKEN_OUT_AT_ONCE - count)
    end
  end
  return count >= TAKEN_OUT_AT_ONCE and 1 or 0
end

local function renew_lease()
  redis.call('ZADD', NODES, string.format('%.0f', now + lease_ms), OWN)
  redis.call('PEXPIRE', NODES, lease_ms + COUNTED_MS)
  redis.call('PEXPIRE', USERS, lease_ms + COUNTED_MS)
  redis.call('PEXPIRE', clients_of(OWN), lease_ms + KEPT_MS)
end

-- Tell the room of some who joined or left; what is long is told in parts.
local function tell_some(name, members)
  local part, bytes = {}, 0
  local function send()
    if #part > 0 then
      redis.call(verb, channel, '+ + {"' .. name .. '":[' .. table.concat(part, ',') .. ']}')
      part, bytes = {}, 0
    end
  end
  for _, client in ipairs(order) do
    local member = members[client]
    if member then
      if bytes + #member > EVENT_BYTES then
        send()
      end
      part[#part + 1] = member
      bytes = bytes + #member + 1
      members[client] = nil
    end
  end
  send()
end

local function tell()
  tell_some('left', left)
  tell_some('joined', joined)
end
