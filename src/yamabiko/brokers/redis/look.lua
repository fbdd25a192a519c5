-- Count who is in a room, after members of nodes whose lease has ended are taken out.
--
-- KEYS, ARGV  see presence.lua
-- Returns {1 if there are more to take out, users, node, its clients, node, its clients, ...}.

local found = {take_out_the_lost(), redis.call('HLEN', USERS)}
tell()
for _, node in ipairs(redis.call('ZRANGE', NODES, 0, -1)) do
  found[#found + 1] = node
  found[#found + 1] = redis.call('HLEN', clients_of(node))
end
return found
