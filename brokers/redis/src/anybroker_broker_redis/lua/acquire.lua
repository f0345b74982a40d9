-- Leases due messages, queues in order of preference. ARGV: limit, microseconds of the lease, token: 16 random
-- characters. A counter would not do: after a failover or a restart it may go back, and give the token of a lost lease.
-- Returns microseconds until the next message falls due (-1: none is known to), when the leases run out, and then for
-- each message: number of its queue, lease, what is stored, how often it was delivered before.

-- Wake another one if there is something to see in a queue, now or soon.
local function pass_on(q, now)
  local soon = call('EXISTS', q.ready) == 1
  for _, key in ipairs(soon and {} or { q.delayed, q.leased }) do
    local first = call('ZRANGE', key, 0, 0, 'WITHSCORES')[2]
    soon = soon or first and tonumber(first) - now < SOON
  end
  if soon then
    wake(q)
  end
end

local number = (#KEYS - 3) / 6
local states = {}
for n = 1, number do
  local q = queue(n)
  states[3 * n - 2], states[3 * n - 1], states[3 * n] = q.ready, q.delayed, q.leased
end
if call('EXISTS', unpack(states)) == 0 then
  return { -1, 0 }
end
local room, now = tonumber(ARGV[1]), clock()
local ends = now + ARGV[2]
local answer, alarm = { -1, ends }, nil
for n = 1, number do
  local q = queue(n)
  promote(q, now)
  local popped = call('ZPOPMIN', q.ready, room)
  local found = #popped / 2
  if found > 0 then
    room = room - found
    local ids, leases = {}, {}
    for i = 1, found do
      local member = popped[2 * i - 1]
      ids[i] = id_of(member)
      leases[2 * i - 1], leases[2 * i] = ends, ARGV[3] .. member
    end
    local values = call('HMGET', MESSAGES, unpack(ids))
    local before = call('EXISTS', RETURNED) == 1 and call('HMGET', RETURNED, unpack(ids)) or {}
    call('ZADD', q.leased, unpack(leases))
    for i = 1, found do
      local at = #answer
      answer[at + 1], answer[at + 2], answer[at + 3] = n, leases[2 * i], values[i]
      answer[at + 4] = before[i] and tonumber(string.match(before[i], '^%d+')) or 0
    end
  end
  if call('EXISTS', q.ready) == 1 then
    wake(q)
  else
    call('DEL', q.wake)
    if found > 0 and ends - now < SOON then
      wake(q)
    end
  end
  if found > 0 and room == 0 then
    for rest = n + 1, number do -- it may have been one of these that woke this one, and others wait for it
      pass_on(queue(rest), now)
    end
    return answer
  end
  for _, key in ipairs({ q.delayed, q.leased }) do
    local first = call('ZRANGE', key, 0, 0, 'WITHSCORES')[2]
    if first and (not alarm or tonumber(first) < alarm) then
      alarm = tonumber(first)
    end
  end
end
answer[1] = alarm and alarm - now or -1
return answer
