-- A change of a subscription has an outcome, or was never sent. Harmless when it has ended already.
-- KEYS: account. ARGV: 1 command id. Returns whether it was under way.
local command = changing(redis.call('HGET', KEYS[1], 'changing'), 0)
if command ~= ARGV[1] then return 0 end
return redis.call('HDEL', KEYS[1], 'changing')
