-- Writes a page at the target; ARGV has value, expiry (ms; -1: none) and what to do
-- for each key after the first five. Returns 1, or 0 where the move may not write.
local fence, received, index, version = unpack(KEYS, 1, 4)
local move, epoch, reached, lifetime = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
if tonumber(redis.call('GET', fence) or '0') ~= epoch or redis.call('HGET', received, 'move') ~= move then return 0 end
for i = 5, #KEYS do
  local name, at = KEYS[i], 5 + (i - 5) * 3
  local value, expiry, what = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  if what == 'delete' then
    redis.call('DEL', name)
    redis.call('ZREM', index, name)
  else
    if tonumber(expiry) > 0 then
      redis.call('SET', name, value, 'PXAT', expiry)
    else
      redis.call('SET', name, value)
    end
    if what == 'keep' then redis.call('ZADD', index, redis.call('INCR', version), name) end
  end
end
redis.call('HSET', received, 'version', reached)
if tonumber(lifetime) > 0 then redis.call('PEXPIRE', received, lifetime) end
return 1
