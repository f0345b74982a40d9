-- Gives leases of one queue back, so that others get their messages at once. ARGV: the leases.
local q, held = queue(1), {}
for i, score in ipairs(call('ZMSCORE', q.leased, unpack(ARGV))) do
  if score then
    held[#held + 1] = ARGV[i]
  end
end
if #held > 0 then
  give_back(q, held, clock())
  wake(q)
end
return #held
