-- Claims are about to be written anew: a note that is lost together with them, and that stands for this server process alone.
-- KEYS: hash. ARGV: 1 partition, 2 any text that was not given before. Returns the note, for begin.lua.
local note = ARGV[2] .. ' ' .. string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
redis.call('HSET', KEYS[1], ARGV[1] .. ':restored', note)
return note
