-- Gives leases of one queue back, so that others get their messages at once. ARGV: the leases.
local q = queue(1)
local _, found = held(q, ARGV)
if #found > 0 then
  give_back(q, found, clock())
  wake(q)
end
return #found
