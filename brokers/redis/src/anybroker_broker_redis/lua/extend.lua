-- Holds leases of one queue so much longer from now. ARGV: microseconds, the leases.
-- Returns an answer for each lease, and when those that were held run out.
local q, leases = queue(1), {}
for i = 2, #ARGV do
  leases[i - 1] = ARGV[i]
end
local scores = call('ZMSCORE', q.leased, unpack(leases))
local ends, found, scored, answers = clock() + ARGV[1], {}, {}, {}
for i, lease in ipairs(leases) do
  if scores[i] then
    found[#found + 1] = lease
    scored[#scored + 1], scored[#scored + 2] = ends, lease
  end
  answers[i] = scores[i] and 1 or 0
end
if #found > 0 then
  call('ZREM', q.leased, unpack(found)) -- a script that has begun with less may add when the memory is used up
  call('ZADD', q.leased, unpack(scored))
  if tonumber(ARGV[1]) < SOON then
    wake(q)
  end
end
answers[#answers + 1] = ends
return answers
