-- Counts of one queue, in O(log n). Changes nothing.
-- Returns how many are ready, leased, delayed, and for how many microseconds the oldest is ready (-1: none is).
local LEVELS = 100 -- priorities that are looked at
local q, now = queue(1), clock()
local due = call('ZCOUNT', q.delayed, '-inf', now)
local expired = call('ZCOUNT', q.leased, '-inf', now)
local ready = call('ZCARD', q.ready) + due + expired
local delayed = call('ZCARD', q.delayed) - due + call('ZCARD', q.blocked)
local since = now + 1
if due > 0 then
  since = math.min(since, tonumber(call('ZRANGE', q.delayed, 0, 0, 'WITHSCORES')[2]))
end
if expired > 0 then
  since = math.min(since, tonumber(call('ZRANGE', q.leased, 0, 0, 'WITHSCORES')[2]))
end
local from = '-'
for _ = 1, LEVELS do
  local first = call('ZRANGEBYLEX', q.ready, from, '+', 'LIMIT', 0, 1)[1]
  if not first then
    break
  end
  local returned = call('HGET', RETURNED, id_of(first))
  local value = call('HGET', MESSAGES, id_of(first))
  if returned then
    since = math.min(since, tonumber(string.match(returned, '%d+$')))
  elseif value then
    local meta = meta_of(value, PLACE + SINCE + 1)
    since = math.min(since, math.max(tonumber(sub(value, PLACE + 1, PLACE + SINCE), 16), meta and meta.eta or 0))
  end
  from = '[' .. sub(first, 1, LEVEL) .. 'g'
end
return { ready, call('ZCARD', q.leased) - expired, delayed, ready > 0 and now - since or -1 }
