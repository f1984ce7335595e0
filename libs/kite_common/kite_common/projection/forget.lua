-- Take away what stands for a position up to ours; what is newer is another owner's and stays.
-- KEYS: hash. ARGV: 1 field that holds the position, 2 our position, 3 whether the whole hash goes (1) or the field (0).
local stored = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or '0')
if stored > tonumber(ARGV[2]) then return 0 end
if ARGV[3] == '1' then return redis.call('DEL', KEYS[1]) end
return redis.call('HDEL', KEYS[1], ARGV[1])
