-- Removes leased messages of one queue for good.
-- ARGV: name of the queue, number of leases, the leases, then for those with an ordering key: lease and key.
-- Returns an answer for each lease, or nothing if all were held.
local q, number = queue(1), tonumber(ARGV[2])
local leases = {}
for i = 1, number do
  leases[i] = ARGV[i + 2]
end
local answers, found, ids = held(q, leases)
if #found > 0 then
  call('ZREM', q.leased, unpack(found))
  forget(ids)
  if #ARGV > number + 2 then
    local now, gone = clock(), {}
    for _, lease in ipairs(found) do
      gone[lease] = true
    end
    for i = number + 3, #ARGV, 2 do
      if gone[ARGV[i]] then
        gone[ARGV[i]] = nil
        leave_line(q, ARGV[i + 1], sub(ARGV[i], TOKEN + 1), now)
      end
    end
  end
  tidy(q, ARGV[1])
end
return #found == number and {} or answers
