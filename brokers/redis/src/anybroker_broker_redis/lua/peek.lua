-- The first messages of one queue in the order of delivery, whatever their state. Changes nothing.
-- ARGV: how many, how many of those that are not ready are looked at. Returns id and what is stored of each.
local q, limit, depth = queue(1), tonumber(ARGV[1]), tonumber(ARGV[2])
if limit < 1 then
  return {}
end
local members = call('ZRANGE', q.ready, 0, limit - 1)
for _, key in ipairs({ q.delayed, q.blocked }) do
  for _, member in ipairs(call('ZRANGE', key, 0, depth - 1)) do
    members[#members + 1] = member
  end
end
for _, lease in ipairs(call('ZRANGE', q.leased, 0, depth - 1)) do
  members[#members + 1] = sub(lease, TOKEN + 1)
end
table.sort(members)
local answer = {}
for i = 1, math.min(limit, #members) do
  local id = id_of(members[i])
  answer[2 * i - 1], answer[2 * i] = id, call('HGET', MESSAGES, id)
end
return answer
