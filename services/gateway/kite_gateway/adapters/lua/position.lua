-- Up to where a team's account is projected. Changes nothing.
-- KEYS: account. Returns: the position, -1 if there is no account
return tonumber(redis.call('HGET', KEYS[1], 'applied') or '-1')
