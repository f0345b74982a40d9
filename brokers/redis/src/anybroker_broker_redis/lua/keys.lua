-- What every script begins with: how messages lie in Redis.
--
-- KEYS: messages, returned, queues; then for each queue that the script works on
--       ready, delayed, leased, blocked, lines, wake.
--
-- A message is a field of the hash `messages`, id -> place, the microsecond since which it is there, meta, "\n", body;
-- and a member, place .. id, of one sorted set of its queue, which says in what state it is:
--   ready    score 0, so that the members are in the order of their places
--   delayed  score: its eta, in microseconds
--   leased   score: when the lease runs out; the member has the token before it, which no other lease of it ever has
--   blocked  score: its eta, or 0; an older message of its ordering key is still in the queue
-- place: 8 hexadecimal digits that fall as the priority rises, then 14 of the order of arrival.
-- lines: a sorted set of score 0, the SHA-1 of an ordering key .. order of arrival .. place .. id.
-- queues: a hash, queue -> the last order of arrival; a queue that is empty has none, and begins anew.
-- returned: id -> how often it was delivered before, and since when it is ready; for those that have come back.
-- wake: a list with one element while there is something to see for one who waits (see `wake`).

local MESSAGES, RETURNED, QUEUES = KEYS[1], KEYS[2], KEYS[3]
local TOKEN, LEVEL, PLACE, SINCE, SHA = 16, 8, 22, 14, 40
local NEWLINE = 10
local STEP = 1000            -- messages that one pass moves from one state to another
local SOON = 2000000         -- microseconds; whoever waits looks again after half of it in any case
local call, sub, format = redis.call, string.sub, string.format

