-- A number that only rises, and whose loss is noticed: an owner that was replaced must not take it back.
-- KEYS: hash. ARGV: 1 field, 2 value, 3 what must stand there at least ('' = it may be missing). Returns whether it did.
local stored = redis.call('HGET', KEYS[1], ARGV[1])
if ARGV[3] ~= '' and (not stored or tonumber(stored) < tonumber(ARGV[3])) then return 0 end
if not stored or tonumber(stored) < tonumber(ARGV[2]) then redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) end
return 1
