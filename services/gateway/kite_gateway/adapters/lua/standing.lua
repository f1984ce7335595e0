-- What a team has, uses and owes now, by the arithmetic of admission. Changes nothing.
-- KEYS: account, reservations, reserved, replays. ARGV: 1 stream time of the partition (ms, 0 = unknown), 2 lapse (ms)
-- Returns: time [, month used, month limit, day used, day limit, period start, period end, charged in this period, balance, reserved, price,
--          debt, revision, status, provider, subscription, plan id, plan name, rate, replay price, largest payload, sources, monthly price];
--          the last four and debt as text, '' where an older billing has projected; only the time if there is no account

local now, lapsed_before = now_ms(), tonumber(ARGV[1]) - tonumber(ARGV[2])

local account = redis.call('HMGET', KEYS[1], unpack(COUNTED))
local plan = redis.call('HMGET', KEYS[1], 'status', 'provider', 'subscription', 'plan_id', 'plan_name', 'price', 'debt', 'revision',
  'rate_per_min', 'replay_price', 'max_payload', 'sources_limit', 'monthly')
if not plan[1] then return {now} end

local usage = usage_now(account, KEYS[2], now, lapsed_before)
local total = tonumber(redis.call('HGET', KEYS[3], 'total') or 0)
local reserved, charged = total, total
for _, key in ipairs({KEYS[2], KEYS[4]}) do
  reserved = reserved - held_before(key, KEYS[3], lapsed_before)
  charged = charged - held_before(key, KEYS[3], math.max(usage.begins, lapsed_before))
end

return {now, usage.month_used, usage.month_limit, usage.day_used, usage.day_limit, usage.period_start, usage.period_end,
  usage.charged + charged, usage.balance, reserved, tonumber(plan[6]), tonumber(plan[7] or 0), tonumber(plan[8] or 0),
  plan[1], plan[2], plan[3], plan[4], plan[5], tonumber(plan[9] or 0), plan[10] or '', plan[11] or '', plan[12] or '', plan[13] or ''}
