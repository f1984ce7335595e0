-- Claims of events that are in the ledger, as the log tells them after Redis has lost data. Nobody may be admitted meanwhile.
-- KEYS: claims of one team. ARGV, nine per claim: event id, body digest, time of receipt, used, limit, charged, when it ends (ms),
-- whether the first answer is known (0|1): without it the key stays taken, and no body is the right one; and the receipt of its payment.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
for place, key in ipairs(KEYS) do
  local event, body, received, used, limit, charged, ends, known, receipt = unpack(ARGV, place * 9 - 8, place * 9)
  local state, held = unpack(redis.call('HMGET', key, 'state', 'event_id'))
  if held == event then
    redis.call('HSET', key, 'state', 'accepted')
  elseif state ~= 'accepted' and tonumber(ends) > now then
    -- A claim in flight that stands here is from an older copy: its event never came into the log, or the key would not have been free.
    redis.call('DEL', key)
    redis.call('HSET', key, 'state', 'accepted', 'event_id', event, 'body', body)
    if known == '1' then redis.call('HSET', key, 'received', received, 'used', used, 'limit', limit, 'charged', charged) end
    if receipt ~= '' then redis.call('HSET', key, 'receipt', receipt) end
    redis.call('PEXPIREAT', key, ends)
  end
end
return 1
