-- Writes states; a final one is told to those who wait for it.
-- KEYS: of the results. ARGV: milliseconds for which they are kept (0: for ever), most bytes to tell, then for each
-- result its channel, attempt, "1" if it is final, and what is stored. Returns an answer for each.
local FINAL = { succeeded = true, failed = true, cancelled = true, expired = true }
local ttl, most, answers = tonumber(ARGV[1]), tonumber(ARGV[2]), {}
for i, key in ipairs(KEYS) do
  local at = 4 * i - 1
  local attempt, value = tonumber(ARGV[at + 1]), ARGV[at + 3]
  local state, before = string.match(call('GETRANGE', key, 0, 40), '^(%a+) (%d+)\n')
  before = tonumber(before)
  if not state or attempt > before or (attempt == before and not FINAL[state]) then
    if ttl > 0 then
      call('SET', key, value, 'PX', ttl)
    else
      call('SET', key, value)
    end
    if ARGV[at + 2] == '1' then
      call('PUBLISH', ARGV[at], #value <= most and value or '')
    end
    answers[i] = 1
  else
    answers[i] = 0
  end
end
return answers
