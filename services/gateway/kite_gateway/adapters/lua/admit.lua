-- One message or delivery to a hook wants in: every check and the reservation, in one step. Decides nothing about wording or HTTP: domain/admission.py does.
-- Without the reservation it is a look ahead: what would become of it now, before a payment is taken for it.
-- KEYS: account, reservations, reserved, bucket [, claim of the Idempotency-Key] [, claim of the payment] [, claim of the delivery]
-- ARGV: 1 event id, 2 stream time of the partition (ms, 0 = unknown), 3 lapse (ms), 4 lapsed at most per call, 5 rate for all teams or '',
--       6 rate without subscription, 7 claim lifetime (s), 8 body digest ('' = no Idempotency-Key), 9 time of receipt (ms),
--       10 whether there is a claim of a delivery (0|1), 11 bytes of the body, 0 = the plan's limit is not asked,
--       12 whether a token is taken (0|1), 13 whether it is reserved (0|1), 14 lifetime of the payment's claim (s), 0 = no payment,
--       15 receipt of the payment ('' = none)
-- Returns: outcome, time, rate, level, month used, month limit, day used, day limit, period start, period end, price, available,
--          subscription, debt;  REPLAYED, DUPLICATE: ..., subscription, first event id, first received, first used, first limit, first
--          charged, receipt of its payment;
--          TOO_LARGE: outcome, time, largest

local ADMITTED, UNKNOWN, RATE, REPLAYED, IN_PROGRESS, REUSED, NO_SUBSCRIPTION, MONTH, DAY, WALLET = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9
local TOO_LARGE, DUPLICATE, DELIVERING, CHANGING, PAID_IN_FLIGHT = 10, 11, 12, 13, 14
local now = now_ms()
local claim_key, delivery_key = ARGV[8] ~= '' and KEYS[5] or nil, ARGV[10] == '1' and KEYS[#KEYS] or nil
local payment_place = ARGV[14] ~= '0' and (claim_key and 6 or 5) or 0

local account = redis.call('HMGET', KEYS[1], 'status', 'provider', 'subscription', 'rate_per_min', 'price', 'changing', 'max_payload',
  'debt', unpack(COUNTED))
local status = account[1]
if not status then return {UNKNOWN, now} end

-- An account that was projected before there was this field has no limit of its own.
local largest = tonumber(account[7]) or 0
if largest > 0 and tonumber(ARGV[11]) > largest then return {TOO_LARGE, now, largest} end

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
local level, allowed = take(KEYS[4], rate, now, ARGV[12] == '0')
if not allowed then return {RATE, now, rate, level} end

-- What stands in a claim, and whether its event was accepted; one read back from the log may be without its first answer (claims.lua), then
-- it stays taken. A claim in flight whose reservation is gone was refused, released or
-- lapsed: it is free.
local function held_by(key)
  local claim = key and redis.call('HMGET', key, 'state', 'body', 'event_id', 'received', 'used', 'limit', 'charged', 'receipt') or {}
  local accepted = claim[1] == 'accepted'
  if accepted or (claim[1] and claim[3] and redis.call('ZSCORE', KEYS[2], claim[3])) then return claim, accepted end
  return nil
end

local function first(outcome, claim)
  return {outcome, now, rate, level, 0, 0, 0, 0, 0, 0, 0, 0, '', claim[3], tonumber(claim[4]), tonumber(claim[5]), tonumber(claim[6]),
    tonumber(claim[7]), claim[8] or ''}
end

local claim, accepted = held_by(claim_key)
if claim then
  if claim[2] ~= ARGV[8] then return {REUSED, now, rate, level} end
  if not accepted then return {IN_PROGRESS, now, rate, level} end
  return first(REPLAYED, claim)
end

-- A payment is for one event, whichever Idempotency-Key its repeats carry: the event's id is the payment's own, so it must not be logged twice.
claim, accepted = held_by(KEYS[payment_place])
if claim then
  if not accepted or not claim[4] then return {PAID_IN_FLIGHT, now, rate, level} end
  return first(REPLAYED, claim)
end

local change, closed = changing(account[6], lapsed_before)
if change and closed then return {CHANGING, now, rate, level} end

if status ~= 'active' then return {NO_SUBSCRIPTION, now, rate, level} end

claim, accepted = held_by(delivery_key)
if claim then
  if not accepted or not claim[4] then return {DELIVERING, now, rate, level} end
  return first(DUPLICATE, claim)
end

local usage = usage_now({unpack(account, 9)}, KEYS[2], now, lapsed_before)
local month_used, day_used = usage.month_used, usage.day_used
local price = account[2] == 'x402' and tonumber(account[5]) or 0
local available = usage.balance - tonumber(redis.call('HGET', KEYS[3], 'total') or 0)

local outcome = ADMITTED
if month_used + 1 > usage.month_limit then outcome = MONTH
elseif day_used + 1 > usage.day_limit then outcome = DAY
elseif price > 0 and available < price then outcome = WALLET end

if outcome == ADMITTED and ARGV[13] == '1' then
  month_used, day_used = month_used + 1, day_used + 1
  redis.call('ZADD', KEYS[2], text(now), ARGV[1])
  redis.call('HSET', KEYS[3], ARGV[1], text(price) .. ' ' .. text(usage.today) .. ' ' .. text(usage.begins))
  redis.call('HINCRBY', KEYS[3], 'total', text(price))
  for place = 5, #KEYS do
    redis.call('HSET', KEYS[place], 'state', 'in_flight', 'body', ARGV[8], 'event_id', ARGV[1], 'received', ARGV[9], 'used', text(month_used),
      'limit', text(usage.month_limit), 'charged', text(price), 'receipt', ARGV[15])
    redis.call('EXPIRE', KEYS[place], tonumber(place == payment_place and ARGV[14] or ARGV[7]))
  end
end

return {outcome, now, rate, level, month_used, usage.month_limit, day_used, usage.day_limit, usage.period_start, usage.period_end, price,
  available, account[3] or '', tonumber(account[8] or 0)}
