-- One message wants in: every check and the reservation, in one step. Decides nothing about wording or HTTP: domain/admission.py does.
-- KEYS: account, reservations, reserved, bucket [, claim]
-- ARGV: 1 event id, 2 stream time of the partition (ms, 0 = unknown), 3 lapse (ms), 4 lapsed at most per call, 5 rate for all teams or '',
--       6 rate without subscription, 7 claim lifetime (s), 8 body digest, 9 time of receipt (ms)
-- Returns: outcome, time, rate, level, month used, month limit, day used, day limit, period start, period end, price, available,
--          subscription [, first event id, first receipt, first used, first limit, first charged]

local ADMITTED, UNKNOWN, RATE, REPLAYED, IN_PROGRESS, REUSED, NO_SUBSCRIPTION, MONTH, DAY, WALLET = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9
local CHANGING = 10
local now = now_ms()

local account = redis.call('HMGET', KEYS[1], 'status', 'provider', 'subscription', 'rate_per_min', 'price', 'changing', unpack(COUNTED))
local status = account[1]
if not status then return {UNKNOWN, now} end

-- Reservations whose event provably never reached the log: their money and their place in the quotas are free again.
local lapsed_before = tonumber(ARGV[2]) - tonumber(ARGV[3])
if lapsed_before > 0 then
  local ids = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', '(' .. text(lapsed_before), 'LIMIT', 0, tonumber(ARGV[4]))
  if #ids > 0 then
    local freed = 0
    for _, held in ipairs(redis.call('HMGET', KEYS[3], unpack(ids))) do
      if held then freed = freed + tonumber(string.match(held, '^%d+')) end
    end
    redis.call('ZREM', KEYS[2], unpack(ids))
    redis.call('HDEL', KEYS[3], unpack(ids))
    redis.call('HINCRBY', KEYS[3], 'total', text(0 - freed))
  end
end

local rate = rate_of(status, account[4], ARGV[5], ARGV[6])
local level, allowed = take(KEYS[4], rate, now)
if not allowed then return {RATE, now, rate, level} end

if KEYS[5] then
  local claim = redis.call('HMGET', KEYS[5], 'state', 'body', 'event_id', 'received', 'used', 'limit', 'charged')
  local accepted = claim[1] == 'accepted'
  -- A claim in flight whose reservation is gone was refused, released or lapsed: the key is free.
  if accepted or (claim[1] and claim[3] and redis.call('ZSCORE', KEYS[2], claim[3])) then
    if claim[2] ~= ARGV[8] then return {REUSED, now, rate, level} end
    if not accepted then return {IN_PROGRESS, now, rate, level} end
    return {REPLAYED, now, rate, level, 0, 0, 0, 0, 0, 0, 0, 0, '', claim[3], tonumber(claim[4]), tonumber(claim[5]), tonumber(claim[6]),
      tonumber(claim[7])}
  end
end

local change, closed = changing(account[6], lapsed_before)
if change and closed then return {CHANGING, now, rate, level} end

if status ~= 'active' then return {NO_SUBSCRIPTION, now, rate, level} end

local usage = usage_now({unpack(account, 7)}, KEYS[2], now, lapsed_before)
local month_used, day_used = usage.month_used, usage.day_used
local price = account[2] == 'x402' and tonumber(account[5]) or 0
local available = usage.balance - tonumber(redis.call('HGET', KEYS[3], 'total') or 0)

local outcome = ADMITTED
if month_used + 1 > usage.month_limit then outcome = MONTH
elseif day_used + 1 > usage.day_limit then outcome = DAY
elseif price > 0 and available < price then outcome = WALLET end

if outcome == ADMITTED then
  month_used, day_used = month_used + 1, day_used + 1
  redis.call('ZADD', KEYS[2], text(now), ARGV[1])
  redis.call('HSET', KEYS[3], ARGV[1], text(price) .. ' ' .. text(usage.today) .. ' ' .. text(usage.begins))
  redis.call('HINCRBY', KEYS[3], 'total', text(price))
  if KEYS[5] then
    redis.call('HSET', KEYS[5], 'state', 'in_flight', 'body', ARGV[8], 'event_id', ARGV[1], 'received', ARGV[9], 'used', text(month_used),
      'limit', text(usage.month_limit), 'charged', text(price))
    redis.call('EXPIRE', KEYS[5], tonumber(ARGV[7]))
  end
end

return {outcome, now, rate, level, month_used, usage.month_limit, day_used, usage.day_limit, usage.period_start, usage.period_end, price,
  available, account[3] or ''}
