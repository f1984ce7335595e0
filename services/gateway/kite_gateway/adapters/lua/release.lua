-- An event that is surely not in the log: give back what admission took. Harmless when somebody else has given it back already.
-- KEYS: reservations, reserved [, claim]. ARGV: 1 event id. Returns whether there was something to give back.
if KEYS[3] and redis.call('HGET', KEYS[3], 'event_id') == ARGV[1] then redis.call('DEL', KEYS[3]) end
redis.call('ZREM', KEYS[1], ARGV[1])
local held = redis.call('HGET', KEYS[2], ARGV[1])
if not held then return 0 end
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('HINCRBY', KEYS[2], 'total', text(0 - tonumber(string.match(held, '^%d+'))))
return 1
