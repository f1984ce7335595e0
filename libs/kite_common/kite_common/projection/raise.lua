-- A number that only rises: an owner that was replaced must not take it back.
-- KEYS: hash. ARGV: 1 field, 2 value.
local stored = redis.call('HGET', KEYS[1], ARGV[1])
if not stored or tonumber(stored) < tonumber(ARGV[2]) then redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) end
return 1
