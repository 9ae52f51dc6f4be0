-- Lets a move write here, at a target. Returns the version of the source that is
-- here already, or -1 where the move may not write: the cell has seen a later epoch,
-- or serves the tenant at this one.
local fence, received = unpack(KEYS)
local move, epoch = ARGV[1], tonumber(ARGV[2])
local at = tonumber(redis.call('GET', fence) or '0')
if at < epoch then
  redis.call('SET', fence, ARGV[2])
  redis.call('DEL', received)
  redis.call('HSET', received, 'move', move, 'version', '0')
  return 0
end
if at > epoch or redis.call('HGET', received, 'move') ~= move then return -1 end
return tonumber(redis.call('HGET', received, 'version'))
