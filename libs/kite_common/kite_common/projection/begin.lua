-- Projecting a partition begins anew at 0, unless somebody is as far as we are: then we were replaced.
-- KEYS: hash. ARGV: 1 field, 2 how far we are. Returns whether 0 stands there.
local stored = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or '0')
if stored > 0 and stored >= tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], '0')
return 1
