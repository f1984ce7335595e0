-- A page whose usage is surely not in the log: its money is free again. Harmless when somebody else has freed it already.
-- KEYS: replays, reserved. ARGV: 1 usage id. Returns whether there was something to free.
redis.call('ZREM', KEYS[1], ARGV[1])
local held = redis.call('HGET', KEYS[2], ARGV[1])
if not held then return 0 end
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('HINCRBY', KEYS[2], 'total', string.format('%.0f', 0 - tonumber(string.match(held, '^%d+'))))
return 1
