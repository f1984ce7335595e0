-- One read of a team: what its account says, and one request from its token bucket, which bearer routes and hooks of all services share.
-- The bucket is the gateway's: t in units (60,000 a request), ts in ms of Redis, whole numbers only; a refused request changes nothing.
-- KEYS: account, bucket. ARGV: 1 rate for all teams or '', 2 rate without an active subscription. 0 = no limit.
-- Returns: status (false: the account is not known here), rate, units left, allowed
local account = redis.call('HMGET', KEYS[1], 'status', 'rate_per_min')
local status = account[1]
if not status then return {false, 0, 0, 0} end

local rate = tonumber(ARGV[1])
if not rate then rate = tonumber(status == 'active' and account[2] or ARGV[2]) or 0 end
if rate == 0 then return {status, 0, 0, 1} end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local unit, size = 60000, rate * 60000
local held = redis.call('HMGET', KEYS[2], 't', 'ts')
local level, at = tonumber(held[1]) or size, tonumber(held[2]) or now
level = math.min(size, level + math.min(math.max(0, now - at), unit) * rate)
if level < unit then return {status, rate, level, 0} end

level = level - unit
-- '%.0f', because tostring() rounds above 14 digits.
redis.call('HSET', KEYS[2], 't', string.format('%.0f', level), 'ts', string.format('%.0f', math.max(at, now)))
redis.call('PEXPIRE', KEYS[2], math.ceil((size - level) / rate) + 1)
return {status, rate, level, 1}
