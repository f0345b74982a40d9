-- Stores messages of one queue that are ready at once, without priority or ordering key, as most are; enqueue.lua takes
-- all of them, and keys.lua says how they lie in Redis. KEYS: messages, queues, ready, wake.
-- ARGV: name of the queue, then id and payload of each message. Returns how many are new.
local MESSAGES, QUEUES, READY, WAKE = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local call, format = redis.call, string.format
local number = (#ARGV - 1) / 2
for i = 1, number do
  if string.byte(ARGV[2 * i + 1]) ~= 10 then
    return redis.error_reply('ERR the payload of a plain message begins with a line break')
  end
end
call('ZCARD', READY) -- a key of another type is refused here, before anything is changed
local asleep = call('LLEN', WAKE) == 0
local seq = call('HINCRBY', QUEUES, ARGV[1], number) - number -- before others: it is what is refused without memory
local time = call('TIME')
local since = format('%014x', time[1] * 1000000 + time[2])
local ready = {}
for i = 1, number do
  local id, place = ARGV[2 * i], format('7fffffff%014x', seq + i)
  if call('HSETNX', MESSAGES, id, place .. since .. ARGV[2 * i + 1]) == 1 then
    local at = #ready
    ready[at + 1], ready[at + 2] = '0', place .. id
  end
end
if #ready > 0 then
  call('ZADD', READY, unpack(ready))
  if asleep then
    call('RPUSH', WAKE, '1')
  end
elseif seq == 0 then
  call('HDEL', QUEUES, ARGV[1]) -- the queue was empty, and is
end
return #ready / 2
