-- One request of a route that costs nothing but a token.
-- KEYS: account, bucket. ARGV: 1 rate for all teams or '', 2 rate without subscription. Returns: allowed, rate, level
local account = redis.call('HMGET', KEYS[1], 'status', 'rate_per_min')
local rate = rate_of(account[1], account[2], ARGV[1], ARGV[2])
local level, allowed = take(KEYS[2], rate, now_ms())
return {allowed and 1 or 0, rate, level}
