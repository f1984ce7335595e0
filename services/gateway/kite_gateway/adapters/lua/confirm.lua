-- The event of these claims is in the log: their repeats get the first answer from now on.
-- KEYS: claims. ARGV: 1 event id. Returns how many were still this event's.
local confirmed = 0
for _, key in ipairs(KEYS) do
  if redis.call('HGET', key, 'event_id') == ARGV[1] then
    redis.call('HSET', key, 'state', 'accepted')
    confirmed = confirmed + 1
  end
end
return confirmed
