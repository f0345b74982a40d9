-- Stores messages of one queue that are ready at once, without priority or ordering key, as most are; enqueue.lua takes
-- all of them, and keys.lua says how they lie in Redis. KEYS: messages, queues, ready, wake.
-- ARGV: name of the queue, then id and payload of each message. Returns how many are new.
local MESSAGES, QUEUES, READY, WAKE = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local call, format = redis.call, string.format
local ids = {}
for i = 2, #ARGV, 2 do
  ids[i / 2] = ARGV[i]
  if string.byte(ARGV[i + 1]) ~= 10 then
    return redis.error_reply('ERR the payload of a plain message begins with a line break')
  end
end
local known = call('HMGET', MESSAGES, unpack(ids))
local seq = call('HINCRBY', QUEUES, ARGV[1], #ids) - #ids -- first of all: it is what is refused when the memory is used up
local time = call('TIME')
local since = format('%014x', time[1] * 1000000 + time[2])
local fields, ready, seen, number = {}, {}, {}, 0
for i, id in ipairs(ids) do
  if not known[i] and not seen[id] then
    seen[id] = true
    local place = format('7fffffff%014x', seq + i)
    fields[number + 1], fields[number + 2] = id, place .. since .. ARGV[2 * i + 1]
    ready[number + 1], ready[number + 2] = 0, place .. id
    number = number + 2
  end
end
if number > 0 then
  call('ZADD', READY, unpack(ready)) -- first: where it is refused, no id may be known that is in no queue
  call('HSET', MESSAGES, unpack(fields))
  if call('LLEN', WAKE) == 0 then
    call('RPUSH', WAKE, '1')
  end
elseif seq == 0 then
  call('HDEL', QUEUES, ARGV[1]) -- the queue was empty, and is
end
return number / 2
