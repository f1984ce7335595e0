-- One request of a route without bearer, from the bucket of its client address.
-- KEYS: bucket. ARGV: 1 requests a minute. Returns: allowed, level
local level, allowed = take(KEYS[1], tonumber(ARGV[1]), now_ms())
return {allowed and 1 or 0, level}
