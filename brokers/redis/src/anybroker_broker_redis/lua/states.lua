-- How a message moves from one state to another; what all scripts begin with but those that need none of it.

-- The keys of the queue that is number n among KEYS.
local function queue(n)
  local at = 6 * n - 3
  return {
    ready = KEYS[at + 1], delayed = KEYS[at + 2], leased = KEYS[at + 3],
    blocked = KEYS[at + 4], lines = KEYS[at + 5], wake = KEYS[at + 6],
  }
end

-- End with an error where one of the keys is of another type: before anything is changed.
local function refuse_other_types(q)
  for _, key in ipairs({ q.ready, q.delayed, q.blocked, q.lines }) do
    call('ZCARD', key)
  end
  call('LLEN', q.wake)
end

-- Microseconds since 1970 by the server's clock.
local function clock()
  local time = call('TIME')
  return time[1] * 1000000 + time[2]
end

local function id_of(member)
  return sub(member, PLACE + 1)
end

-- Let one of those who wait look. A second element would wake a second one for nothing: the first passes it on when
-- there is more than it takes.
local function wake(q)
  if call('LLEN', q.wake) == 0 then
    call('RPUSH', q.wake, '1')
  end
end

-- Put a message that nothing holds back where it belongs.
local function admit(q, member, eta, now)
  if eta > now then
    call('ZADD', q.delayed, eta, member)
    if eta - now < SOON then
      wake(q)
    end
  else
    call('ZADD', q.ready, 0, member)
    wake(q)
  end
end

local function line_member(key, member)
  return redis.sha1hex(key) .. sub(member, LEVEL + 1, PLACE) .. member
end

-- The member that is the oldest of an ordering key, or nil.
local function head_of_line(q, sha)
  local first = call('ZRANGEBYLEX', q.lines, '[' .. sha, '(' .. sha .. 'g', 'LIMIT', 0, 1)[1]
  return first and sub(first, SHA + PLACE - LEVEL + 1)
end

-- A message with an ordering key leaves its queue, and lets the next one in.
local function leave_line(q, key, member, now)
  call('ZREM', q.lines, line_member(key, member))
  local head = head_of_line(q, redis.sha1hex(key))
  local eta = head and call('ZSCORE', q.blocked, head)
  if eta then
    call('ZREM', q.blocked, head)
    call('HSET', RETURNED, id_of(head), '0 ' .. format('%.0f', now))
    admit(q, head, tonumber(eta), now)
  end
end

-- What a payload says beside the body: {} or priority, eta (microseconds) and key.
local function meta_of(payload, from)
  local at = from or 1
  if string.byte(payload, at) == NEWLINE then
    return nil
  end
  return cjson.decode(sub(payload, at, string.find(payload, '\n', at, true) - 1))
end

local function place_of(meta, seq)
  return format('%08x%014x', 2147483647 - (meta and meta.priority or 0), seq)
end

local function stored(place, now, payload)
  return place .. format('%014x', now) .. payload
end

-- A message that has an eta, a priority or an ordering key is put into its state.
local function arrive(q, member, meta, now)
  local eta = meta and meta.eta or 0
  local key = meta and meta.key
  if key then
    call('ZADD', q.lines, 0, line_member(key, member))
    if head_of_line(q, redis.sha1hex(key)) ~= member then
      call('ZADD', q.blocked, eta, member)
      return
    end
  end
  admit(q, member, eta, now)
end

-- Leases end without a settle: their messages are ready again, in their old places, delivered once more than before.
local function give_back(q, leases, now)
  local members, ids = {}, {}
  for i, lease in ipairs(leases) do
    members[2 * i - 1], members[2 * i] = 0, sub(lease, TOKEN + 1)
    ids[i] = id_of(members[2 * i])
  end
  call('ZREM', q.leased, unpack(leases))
  call('ZADD', q.ready, unpack(members))
  local before, after = call('HMGET', RETURNED, unpack(ids)), {}
  for i, id in ipairs(ids) do
    local count = before[i] and tonumber(string.match(before[i], '^%d+')) or 0
    after[2 * i - 1], after[2 * i] = id, format('%.0f %.0f', count + 1, now)
  end
  call('HSET', RETURNED, unpack(after))
end

-- Make ready what has fallen due, and what was held by a lease that has run out. True if there may be more of it.
local function promote(q, now)
  local due = call('ZRANGEBYSCORE', q.delayed, '-inf', now, 'LIMIT', 0, STEP)
  if #due > 0 then
    call('ZREM', q.delayed, unpack(due))
    local members = {}
    for i, member in ipairs(due) do
      members[2 * i - 1], members[2 * i] = 0, member
    end
    call('ZADD', q.ready, unpack(members))
  end
  local expired = call('ZRANGEBYSCORE', q.leased, '-inf', now, 'LIMIT', 0, STEP)
  if #expired > 0 then
    give_back(q, expired, now)
  end
  return #due == STEP or #expired == STEP
end

-- Forget messages that have left all sorted sets of their queue.
local function forget(ids)
  call('HDEL', MESSAGES, unpack(ids))
  if call('EXISTS', RETURNED) == 1 then
    call('HDEL', RETURNED, unpack(ids))
  end
end

-- A queue that holds nothing leaves nothing behind.
local function tidy(q, name)
  if call('EXISTS', q.ready, q.delayed, q.leased, q.blocked) == 0 then
    call('HDEL', QUEUES, name)
    call('DEL', q.wake)
  end
end

