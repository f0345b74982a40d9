-- Stores one message that is ready at once, without priority or ordering key: enqueue_ready.lua with as little work as
-- one message takes, for it is what a program waits for that sends one. KEYS: messages, queues, ready, wake.
-- ARGV: name of the queue, id, payload. Returns 1 if it is new.
local call = redis.call
if string.byte(ARGV[3]) ~= 10 then
  return redis.error_reply('ERR the payload of a plain message begins with a line break')
end
local seq = call('HINCRBY', KEYS[2], ARGV[1], '1') -- first of all: it is what is refused when the memory is used up
local time = call('TIME')
local head = string.format('7fffffff%014x%014x', seq, time[1] * 1000000 + time[2]) -- its place, and since when
if call('HSETNX', KEYS[1], ARGV[2], head .. ARGV[3]) == 1 then
  local added = redis.pcall('ZADD', KEYS[3], '0', string.sub(head, 1, 22) .. ARGV[2])
  if type(added) == 'table' then -- refused: an id that is known and in no queue would be lost when it is sent again
    call('HDEL', KEYS[1], ARGV[2])
    return added
  end
  if call('LLEN', KEYS[4]) == 0 then
    call('RPUSH', KEYS[4], '1')
  end
  return 1
end
if seq == 1 then
  call('HDEL', KEYS[2], ARGV[1]) -- the queue was empty, and is
end
return 0
