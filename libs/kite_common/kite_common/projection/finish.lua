-- How far a partition is projected: a number that only rises, and whose loss is noticed. An owner that was replaced must not take it back.
-- KEYS: hash. ARGV: 1 partition, 2 value, 3 what must stand there at least, 4 the server that must hold it.
-- Returns 0 if the number is lost or older, or if this is another server process: then what was told to that one may be missing here.
local id = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local stored, server = unpack(redis.call('HMGET', KEYS[1], ARGV[1], ARGV[1] .. ':server'))
if id ~= ARGV[4] or server ~= ARGV[4] or not stored or tonumber(stored) < tonumber(ARGV[3]) then return 0 end
if tonumber(stored) < tonumber(ARGV[2]) then redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) end
return 1
