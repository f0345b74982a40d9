-- Removes up to a thousand messages of one queue that are not leased. ARGV: name of the queue. Returns how many.
local q, now = queue(1), clock()
promote(q, now)
local members = {}
for _, key in ipairs({ q.blocked, q.delayed, q.ready }) do
  local popped = #members < STEP and call('ZPOPMIN', key, STEP - #members) or {}
  for i = 1, #popped, 2 do
    members[#members + 1] = popped[i]
  end
end
if #members > 0 then
  local ids = {}
  for i, member in ipairs(members) do
    ids[i] = id_of(member)
  end
  if call('EXISTS', q.lines) == 1 then
    for i, value in ipairs(call('HMGET', MESSAGES, unpack(ids))) do
      local meta = value and meta_of(value, PLACE + SINCE + 1)
      if meta and meta.key then
        leave_line(q, meta.key, members[i], now)
      end
    end
  end
  forget(ids)
end
tidy(q, ARGV[1])
return #members
