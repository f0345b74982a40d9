-- Leases due messages, queues in order of preference. ARGV: limit, microseconds of the lease, token: 16 random
-- characters. A counter would not do: after a failover or a restart it may go back, and give the token of a lost lease.
-- Returns microseconds until the next message falls due (-1: none is known to), when the leases run out, and then for
-- each queue that had any: its number, the members, what is stored of each, and how often each was delivered before, or
-- nothing if none was. A lease is the token and the member.

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
local score = format('%.0f', ends) -- written out once: to do so takes as long as to look a message up
local answer, alarm = { -1, ends }, nil
for n = 1, number do
  local q = queue(n)
  promote(q, now)
  local members = room > 0 and call('ZRANGE', q.ready, 0, room - 1) or {} -- ZPOPMIN writes the scores out, too
  local found = #members
  if found > 0 then
    call('ZREMRANGEBYRANK', q.ready, 0, found - 1)
    room = room - found
    local ids, leases = {}, {}
    for i, member in ipairs(members) do
      ids[i] = id_of(member)
      leases[2 * i - 1], leases[2 * i] = score, ARGV[3] .. member
    end
    call('ZADD', q.leased, unpack(leases))
    local values = call('HMGET', MESSAGES, unpack(ids))
    for i, value in ipairs(values) do
      if not value then -- removed by others: nobody would ever settle it
        call('ZREM', q.leased, leases[2 * i])
      end
    end
    local counts = call('EXISTS', RETURNED) == 1 and call('HMGET', RETURNED, unpack(ids)) or {}
    for i, before in ipairs(counts) do
      counts[i] = before and tonumber(string.match(before, '^%d+')) or 0
    end
    local at = #answer
    answer[at + 1], answer[at + 2], answer[at + 3], answer[at + 4] = n, members, values, counts
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
