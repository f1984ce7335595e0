-- A page wants to be paid from the wallet: the price by the subscription of this moment, the check and the reservation, in one step.
-- Decides nothing about wording: domain/charge.py does. The same usage again changes nothing and says the same.
-- KEYS: account, replays, reserved, marks of the projection. ARGV: 1 usage id, 2 rows, 3 the team's partition
-- Returns: status (false: the account is not known here), provider, subscription, amount of the page, available before, whether it is
--          reserved, time
-- Another server process than the one billing wrote the accounts to may hold an older copy: the same money would be spent twice.
local id = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
if redis.call('HGET', KEYS[4], ARGV[3] .. ':server') ~= id then return {false} end

local account = redis.call('HMGET', KEYS[1], 'status', 'provider', 'subscription', 'replay_price', 'balance', 'period_start', 'period_end',
  'changing')
local status = account[1]
if not status then return {false} end
-- The provider is being changed: nothing may be reserved at its prices any more.
if account[8] and string.match(account[8], '^%d+ 1 ') then return {false} end

local function text(number)
  return string.format('%.0f', number)
end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local provider, subscription = account[2] or '', account[3] or ''
local amount = provider == 'x402' and (tonumber(account[4]) or 0) * tonumber(ARGV[2]) or 0
local available = (tonumber(account[5]) or 0) - tonumber(redis.call('HGET', KEYS[3], 'total') or 0)

local held = redis.call('HGET', KEYS[3], ARGV[1])
if held then
  amount = tonumber(string.match(held, '^%d+'))
  return {status, provider, subscription, amount, available + amount, 1, tonumber(redis.call('ZSCORE', KEYS[2], ARGV[1]) or now)}
end
if status == 'none' or status == 'cancelled' or amount == 0 or available < amount then
  return {status, provider, subscription, amount, available, 0, now}
end

local begins, ends = tonumber(account[6]) or 0, tonumber(account[7]) or 0
if now >= ends then begins = ends end
redis.call('ZADD', KEYS[2], text(now), ARGV[1])
redis.call('HSET', KEYS[3], ARGV[1], text(amount) .. ' ' .. text(math.floor(now / 86400000)) .. ' ' .. text(begins))
redis.call('HINCRBY', KEYS[3], 'total', text(amount))
return {status, provider, subscription, amount, available, 1, now}
