-- Stores messages of one queue; an id that is still in the broker is left as it is.
-- ARGV: name of the queue, then id and payload of each message. Returns how many are new.
local q, name = queue(1), ARGV[1]
refuse_other_types(q)
local ids = {}
for i = 2, #ARGV, 2 do
  ids[#ids + 1] = ARGV[i]
end
local known = call('HMGET', MESSAGES, unpack(ids))
local seq = call('HINCRBY', QUEUES, name, #ids) - #ids -- first of all: it is what is refused when the memory is used up
local now = clock()
local fields, ready, later, seen = {}, {}, {}, {}
for i, id in ipairs(ids) do
  if not known[i] and not seen[id] then
    seen[id] = true
    local payload = ARGV[2 * i + 1]
    local meta = meta_of(payload)
    local place = place_of(meta, seq + i)
    fields[#fields + 1], fields[#fields + 2] = id, stored(place, now, payload)
    if meta and (meta.eta or meta.key) then
      later[#later + 1] = { place .. id, meta }
    else
      ready[#ready + 1], ready[#ready + 2] = '0', place .. id
    end
  end
end
if #fields > 0 then
  call('HSET', MESSAGES, unpack(fields))
  if #ready > 0 then
    call('ZADD', q.ready, unpack(ready))
    wake(q)
  end
  for _, message in ipairs(later) do
    arrive(q, message[1], message[2], now)
  end
elseif seq == 0 then
  call('HDEL', QUEUES, name) -- the queue was empty, and is
end
return #fields / 2
