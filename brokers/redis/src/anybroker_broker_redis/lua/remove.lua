-- Removes messages of one queue that are not leased. ARGV: name of the queue, ids. Returns an answer for each.
local q, now, answers = queue(1), clock(), {}
repeat -- of what is not ready only this has to move: there may be a million that have just fallen due
  local expired = call('ZRANGEBYSCORE', q.leased, '-inf', now, 'LIMIT', 0, STEP)
  if #expired > 0 then
    give_back(q, expired, now)
  end
until #expired < STEP
for i = 2, #ARGV do
  local id, value = ARGV[i], call('HGET', MESSAGES, ARGV[i])
  local member = value and sub(value, 1, PLACE) .. id
  if value and call('ZREM', q.ready, member) + call('ZREM', q.delayed, member) + call('ZREM', q.blocked, member) > 0 then
    local meta = meta_of(value, PLACE + SINCE + 1)
    forget({ id })
    if meta and meta.key then
      leave_line(q, meta.key, member, now)
    end
    answers[i - 1] = 1
  else
    answers[i - 1] = 0
  end
end
tidy(q, ARGV[1])
return answers
