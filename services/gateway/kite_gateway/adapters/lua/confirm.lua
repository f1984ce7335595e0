-- The event of a claim is in the log: its repeats get the first answer from now on.
-- KEYS: claim. ARGV: 1 event id. Returns whether the claim was still this event's.
if redis.call('HGET', KEYS[1], 'event_id') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'state', 'accepted')
return 1
