-- An event that is surely not in the log: give back what admission took. Harmless when somebody else has given it back already.
-- KEYS: reservations, reserved [, claims]. ARGV: 1 event id. Returns whether there was something to give back.
for place = 3, #KEYS do
  if redis.call('HGET', KEYS[place], 'event_id') == ARGV[1] then redis.call('DEL', KEYS[place]) end
end
redis.call('ZREM', KEYS[1], ARGV[1])
local held = redis.call('HGET', KEYS[2], ARGV[1])
if not held then return 0 end
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('HINCRBY', KEYS[2], 'total', text(0 - tonumber(string.match(held, '^%d+'))))
return 1
