-- Renew a node's lease in a room, and take out members of nodes whose lease has ended.
--
-- KEYS, ARGV  see presence.lua
-- Returns {1 if it had no lease to renew, 1 if there are more to take out}.

local has_lease = redis.call('ZSCORE', NODES, OWN)
if has_lease then
  renew_lease()
end
local is_more = take_out_the_lost()
tell()
return {has_lease and 0 or 1, is_more}
