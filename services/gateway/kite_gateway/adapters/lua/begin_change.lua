-- One change of a subscription at a time, from the state it was decided on. A provider whose events cost money is left only while nothing of
-- it is reserved, and nothing more is admitted until the change has arrived: so it lies between the last event of the old provider and the
-- first of the new one.
-- KEYS: account, reservations, reserved, replays. ARGV: 1 command id, 2 subscription, 3 revision, 4 whether the provider changes (0|1),
--       5 stream time of the partition (ms, 0 = unknown), 6 lapse (ms)
-- Returns: 0 begun (or begun before by the same command), 1 another change is under way, or has just been made, 2 money is reserved

local BEGUN, BUSY, RESERVED = 0, 1, 2
local now, lapsed_before = now_ms(), tonumber(ARGV[5]) - tonumber(ARGV[6])
local account = redis.call('HMGET', KEYS[1], 'changing', 'subscription', 'revision', 'price', 'status')

local under_way, _, together = changing(account[1], lapsed_before)
if under_way and under_way ~= ARGV[1] then return BUSY end
if under_way then
  if not together then redis.call('HSET', KEYS[1], 'changing', account[1] .. ' +') end
  return BEGUN
end
if not account[5] or (account[2] or '') ~= ARGV[2] or (account[3] or '0') ~= ARGV[3] then return BUSY end

local closed = 0
if ARGV[4] == '1' then
  local reserved = tonumber(redis.call('HGET', KEYS[3], 'total') or 0)
  for _, key in ipairs({KEYS[2], KEYS[4]}) do reserved = reserved - held_before(key, KEYS[3], lapsed_before) end
  if reserved > 0 then return RESERVED end
  if tonumber(account[4] or 0) > 0 then closed = 1 end
end
redis.call('HSET', KEYS[1], 'changing', text(now) .. ' ' .. closed .. ' ' .. ARGV[1])
return BEGUN
