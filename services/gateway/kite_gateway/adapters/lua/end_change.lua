-- A change of a subscription has an outcome, or its sender has surely not sent it: then it ends only if nobody else has begun it, too, since
-- the same command may be in the log from there. Harmless when it has ended already.
-- KEYS: account. ARGV: 1 command id, 2 whether it has an outcome (0|1). Returns whether it ended.
local command, _, together = changing(redis.call('HGET', KEYS[1], 'changing'), 0)
if command ~= ARGV[1] or (together and ARGV[2] == '0') then return 0 end
return redis.call('HDEL', KEYS[1], 'changing')
