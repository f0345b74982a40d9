-- Removes leased messages of one queue for good.
-- ARGV: name of the queue, number of leases, the leases, then for those with an ordering key: number of the lease, key.
-- Returns an answer for each lease, or nothing if all were held.
local q, number = queue(1), tonumber(ARGV[2])
local answers, ids = {}, {}
for i = 1, number do
  local lease = ARGV[i + 2]
  answers[i] = call('ZREM', q.leased, lease)
  if answers[i] == 1 then
    ids[#ids + 1] = sub(lease, TOKEN + PLACE + 1)
  end
end
if #ids > 0 then
  forget(ids)
  for i = number + 3, #ARGV, 2 do
    local at = tonumber(ARGV[i])
    if answers[at] == 1 then
      leave_line(q, ARGV[i + 1], sub(ARGV[at + 2], TOKEN + 1), clock())
    end
  end
  tidy(q, ARGV[1])
end
return #ids == number and {} or answers
