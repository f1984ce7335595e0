-- One read of a team: what its account says, and one request from its token bucket, which bearer routes and hooks of all services share.
-- The bucket is the gateway's: t in units (60,000 a request), ts in ms of Redis, whole numbers only; a refused request changes nothing.
-- KEYS: account, bucket, reserved, marks of the projection. ARGV: 1 rate for all teams or '', 2 rate without an active subscription, 0 = no
-- limit, 3 the team's partition
-- Returns: status (false: the account is not known here), provider, price of a row, balance, reserved, rate, units left, allowed
-- Another server process than the one billing wrote the accounts to may hold an older copy: a plan that ended, a wallet that was spent.
local id = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
if redis.call('HGET', KEYS[4], ARGV[3] .. ':server') ~= id then return {false} end

local account = redis.call('HMGET', KEYS[1], 'status', 'rate_per_min', 'provider', 'replay_price', 'balance')
local status = account[1]
if not status then return {false} end

local reserved = tonumber(redis.call('HGET', KEYS[3], 'total') or 0)
local found = {status, account[3] or '', tonumber(account[4]) or 0, tonumber(account[5]) or 0, reserved}
local function with(rate, level, allowed)
  found[6], found[7], found[8] = rate, level, allowed
  return found
end

local rate = tonumber(ARGV[1])
if not rate then rate = tonumber(status == 'active' and account[2] or ARGV[2]) or 0 end
if rate == 0 then return with(rate, 0, 1) end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local unit, size = 60000, rate * 60000
local held = redis.call('HMGET', KEYS[2], 't', 'ts')
local level, at = tonumber(held[1]) or size, tonumber(held[2]) or now
level = math.min(size, level + math.min(math.max(0, now - at), unit) * rate)
if level < unit then return with(rate, level, 0) end

level = level - unit
-- '%.0f', because tostring() rounds above 14 digits.
redis.call('HSET', KEYS[2], 't', string.format('%.0f', level), 'ts', string.format('%.0f', math.max(at, now)))
redis.call('PEXPIRE', KEYS[2], math.ceil((size - level) / rate) + 1)
return with(rate, level, 1)
