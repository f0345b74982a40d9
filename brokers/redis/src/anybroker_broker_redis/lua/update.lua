-- Replaces leased messages by their new versions.
-- ARGV: number of queues, their names, then for each change: number of the queue that it is in, lease, "=" and its
-- ordering key or nothing, number of the queue that it goes to, payload. Returns an answer for each change.
local queues, number = {}, tonumber(ARGV[1])
for n = 1, number do
  local q = queue(n)
  refuse_other_types(q)
  queues[n] = q
end
local now, answers = clock(), {}
for i = number + 2, #ARGV, 5 do
  local from, lease, key = tonumber(ARGV[i]), ARGV[i + 1], ARGV[i + 2]
  local to, payload = tonumber(ARGV[i + 3]), ARGV[i + 4]
  local ours = call('ZREM', queues[from].leased, lease)
  answers[#answers + 1] = ours
  if ours == 1 then
    local old = sub(lease, TOKEN + 1)
    local id, meta = id_of(old), meta_of(payload)
    local stays = from == to and key == (meta and meta.key and '=' .. meta.key or '')
    local seq = stays and tonumber(sub(old, LEVEL + 1, PLACE), 16) or call('HINCRBY', QUEUES, ARGV[to + 1], 1)
    local place = place_of(meta, seq)
    call('HSET', MESSAGES, id, stored(place, now, payload))
    call('HDEL', RETURNED, id)
    if key ~= '' and stays then
      call('ZREM', queues[from].lines, line_member(sub(key, 2), old))
    elseif key ~= '' then
      leave_line(queues[from], sub(key, 2), old, now)
    end
    arrive(queues[to], place .. id, meta, now)
  end
end
for n = 1, number do
  tidy(queues[n], ARGV[n + 1])
end
return answers
