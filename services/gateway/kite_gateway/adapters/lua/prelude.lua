-- What all scripts share: one clock for all gateways, and the token bucket of domain/rate_limit.py in the same whole numbers.

local function now_ms()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- tostring() would round above 14 digits. Write 0 - x for a negative: -x of 0 is '-0', which Redis does not take as an integer.
local function text(number)
  return string.format('%.0f', number)
end

-- The limit of a team: the operator's for all teams, else the plan's, else the one for teams without a subscription. 0 = none.
local function rate_of(status, plan_rate, override, fallback)
  if override ~= '' then return tonumber(override) end
  if status ~= 'active' then return tonumber(fallback) end
  return tonumber(plan_rate) or 0
end

-- Take one request from a bucket: what is left in units (60,000 a request), and whether it was allowed.
local function take(key, rate, now)
  if rate == 0 then return 0, true end
  local unit, size = 60000, rate * 60000
  local held = redis.call('HMGET', key, 't', 'ts')
  local level, at = tonumber(held[1]) or size, tonumber(held[2]) or now
  level = math.min(size, level + math.min(math.max(0, now - at), unit) * rate)
  if level < unit then return level, false end
  level = level - unit
  redis.call('HSET', key, 't', text(level), 'ts', text(math.max(at, now)))
  redis.call('PEXPIRE', key, math.ceil((size - level) / rate) + 1)
  return level, true
end
