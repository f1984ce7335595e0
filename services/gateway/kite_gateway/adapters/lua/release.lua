-- An event that is surely not in the log: give back what admission took. Harmless when somebody else has given it back already.
-- A payment's event has the same id whoever admits it: what another gateway has reserved since is not ours to give back.
-- KEYS: reservations, reserved [, claims]. ARGV: 1 event id, 2 time at which it was reserved (ms). Returns whether there was something to give back.
if tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or -1) ~= tonumber(ARGV[2]) then return 0 end
for place = 3, #KEYS do
  if redis.call('HGET', KEYS[place], 'event_id') == ARGV[1] then redis.call('DEL', KEYS[place]) end
end
redis.call('ZREM', KEYS[1], ARGV[1])
local held = redis.call('HGET', KEYS[2], ARGV[1])
if not held then return 0 end
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('HINCRBY', KEYS[2], 'total', text(0 - tonumber(string.match(held, '^%d+'))))
return 1
