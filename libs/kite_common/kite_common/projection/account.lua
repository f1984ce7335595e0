-- One account and what has become of its reservations, in one step: whoever reads sees a charge whose event is listed here as reserved or
-- as settled, never as both and never as neither. An id that is listed twice, or settled already, frees nothing more.
-- Pages taken from the wallet (replays) are settled and lapse as events do; quotas count reservations only, so they stand apart.
-- KEYS: account, reservations, reserved, replays [, claims]
-- ARGV: 1 whether a missing account may be created (0|1), 2 reservations from before this time (ms) have lapsed, 3 lapsed at most per call,
--       4 number of settled event ids, then these ids, then one event id per claim, then field, value, ... beginning with 'applied'
-- Returns: what became of the account (1 written, 0 it stood there already, 2 a newer one stands there, -1 it is missing), lapsed

local function text(number)
  return string.format('%.0f', number)
end

local function free(ids)
  local freed = 0
  for place, held in ipairs(redis.call('HMGET', KEYS[3], unpack(ids))) do
    -- An id may be given twice: only who takes it away frees its money.
    if held and redis.call('HDEL', KEYS[3], ids[place]) == 1 then freed = freed + tonumber(string.match(held, '^%d+')) end
  end
  redis.call('ZREM', KEYS[2], unpack(ids))
  redis.call('ZREM', KEYS[4], unpack(ids))
  if freed > 0 then redis.call('HINCRBY', KEYS[3], 'total', text(0 - freed)) end
end

local at, ids = 4, {}
for place = 1, tonumber(ARGV[4]) do ids[place] = ARGV[at + place] end
at = at + #ids
if #ids > 0 then free(ids) end

-- Only the claim of this very event: the key may have been given back and taken again.
for place = 5, #KEYS do
  at = at + 1
  if redis.call('HGET', KEYS[place], 'event_id') == ARGV[at] then redis.call('HSET', KEYS[place], 'state', 'accepted') end
end

local lapsed = 0
for _, key in ipairs({KEYS[2], KEYS[4]}) do
  local late = redis.call('ZRANGEBYSCORE', key, '-inf', '(' .. ARGV[2], 'LIMIT', 0, tonumber(ARGV[3]))
  if #late > 0 then free(late) end
  lapsed = lapsed + #late
end

-- A change of the subscription that provably never reached the log.
local under_way = redis.call('HGET', KEYS[1], 'changing')
if under_way and tonumber(string.match(under_way, '^%d+') or 0) < tonumber(ARGV[2]) then redis.call('HDEL', KEYS[1], 'changing') end

-- The last field is the newest one of the contract: where it is missing an older billing has written.
local held = redis.call('HMGET', KEYS[1], 'applied', ARGV[#ARGV - 1], 'subscription', 'revision')
local stored, given = tonumber(held[1] or '-1'), tonumber(ARGV[at + 2])
if stored < 0 and ARGV[1] == '0' then return {-1, lapsed} end
if stored > given then return {2, lapsed} end
if stored == given and held[2] then return {0, lapsed} end
redis.call('HSET', KEYS[1], unpack(ARGV, at + 1))
-- The change that was under way has arrived.
if under_way then
  local now = redis.call('HMGET', KEYS[1], 'subscription', 'revision')
  if now[1] ~= held[3] or now[2] ~= held[4] then redis.call('HDEL', KEYS[1], 'changing') end
end
return {1, lapsed}
