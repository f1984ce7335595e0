-- What all scripts share: one clock for all gateways, the usage of a team as it is now, and the token bucket of domain/rate_limit.py in the same whole numbers.

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

-- Take one request from a bucket: what is left in units (60,000 a request), and whether it was allowed. `looks`: only say what is left.
local function take(key, rate, now, looks)
  if rate == 0 then return 0, true end
  local unit, size = 60000, rate * 60000
  local held = redis.call('HMGET', key, 't', 'ts')
  local level, at = tonumber(held[1]) or size, tonumber(held[2]) or now
  level = math.min(size, level + math.min(math.max(0, now - at), unit) * rate)
  if looks then return level, true end
  if level < unit then return level, false end
  level = level - unit
  redis.call('HSET', key, 't', text(level), 'ts', text(math.max(at, now)))
  redis.call('PEXPIRE', key, math.ceil((size - level) / rate) + 1)
  return level, true
end

-- Milliseconds of a UTC day, and the names by which usage_now() takes an account.
local DAY_MS = 86400000
local COUNTED = {'month_limit', 'day_limit', 'period_start', 'period_end', 'used', 'day', 'day_used', 'balance', 'charged'}

-- The usage of a team at `now`: settled usage comes from the projection, usage in flight from the reservations of the same period and day
-- that have not lapsed. A projection that stands for an ended period or an earlier day counts nothing of the present one.
-- `account`: values of COUNTED. Returns a table.
local function usage_now(account, reservations, now, lapsed_before)
  local found = {
    month_limit = tonumber(account[1]), day_limit = tonumber(account[2]), period_start = tonumber(account[3]),
    period_end = tonumber(account[4]), month_used = tonumber(account[5]), balance = tonumber(account[8]),
    charged = tonumber(account[9] or 0), begins = tonumber(account[3]), today = math.floor(now / DAY_MS),
  }
  if now >= found.period_end then found.month_used, found.charged, found.begins = 0, 0, found.period_end end
  found.day_used = tonumber(account[6]) >= found.today and tonumber(account[7]) or 0
  found.month_used = found.month_used + redis.call('ZCOUNT', reservations, text(math.max(found.begins, lapsed_before)), '+inf')
  found.day_used = found.day_used + redis.call('ZCOUNT', reservations, text(math.max(found.today * DAY_MS, lapsed_before)), '+inf')
  return found
end

-- What the reservations of a sorted set older than a time hold. There are some only for moments: when they lapse, when a period begins.
local function held_before(key, reserved, before)
  local sum = 0
  local ids = redis.call('ZRANGEBYSCORE', key, '-inf', '(' .. text(before))
  for first = 1, #ids, 1000 do
    for _, held in ipairs(redis.call('HMGET', reserved, unpack(ids, first, math.min(first + 999, #ids)))) do
      if held then sum = sum + tonumber(string.match(held, '^%d+')) end
    end
  end
  return sum
end

-- A change of the subscription that is under way: its command, whether nothing is admitted meanwhile, and whether several have begun it;
-- nothing if there is none, or if it has provably never reached the log.
local function changing(text_of_it, lapsed_before)
  if not text_of_it then return nil end
  local at, closed, command, together = string.match(text_of_it, '^(%d+) ([01]) (%S+)(.*)$')
  if not at or tonumber(at) < lapsed_before then return nil end
  return command, closed == '1', together ~= ''
end
