-- Records that a member of a group finished. KEYS: of the group. ARGV: member, size, milliseconds to remember it.
-- Returns 1 when all have, until the group is sealed.
local sealed = call('TYPE', KEYS[1]).ok == 'string'
local all = 0
if not sealed then
  call('SADD', KEYS[1], ARGV[1])
  all = call('SCARD', KEYS[1]) >= tonumber(ARGV[2]) and 1 or 0
end
call('PEXPIRE', KEYS[1], ARGV[3])
return all
