-- What every script begins with.
--
-- A result is a string: its state, a blank, its attempt, "\n", the body. A group is a set of its members, and once it
-- is sealed the string "sealed". A claim is a string: the token of its holder.

local call = redis.call

