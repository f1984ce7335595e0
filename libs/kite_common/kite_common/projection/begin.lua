-- Projecting a partition begins anew at 0 on this very server process, unless somebody is as far as we are: then we were replaced.
-- KEYS: hash. ARGV: 1 partition, 2 how far we are, 3 what restore.lua has returned to us ('' = no claims were restored).
-- Returns: 1 begun, 0 another is as far, -1 the restored claims are gone or on another server; the server's id
local id = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local stored = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or '0')
if stored > 0 and stored >= tonumber(ARGV[2]) then return {0, id} end
local restored = ARGV[1] .. ':restored'
if ARGV[3] ~= '' and (redis.call('HGET', KEYS[1], restored) ~= ARGV[3] or string.match(ARGV[3], '%x+$') ~= id) then return {-1, id} end
redis.call('HDEL', KEYS[1], restored)
redis.call('HSET', KEYS[1], ARGV[1], '0', ARGV[1] .. ':server', id)
return {1, id}
