-- Gives a lock back. KEYS: of the claim. ARGV: token. Returns whether it still held it.
if call('GET', KEYS[1]) == ARGV[1] then
  return call('DEL', KEYS[1])
end
return 0
