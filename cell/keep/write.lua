-- Stores or deletes a durable value, and notes the change. Returns 0, or the
-- epoch of the fence that refused.
local key, fence, received, index, version, noting = unpack(KEYS)
local epoch, verb, value, ttl = tonumber(ARGV[1]), ARGV[2], ARGV[3], tonumber(ARGV[4])

local at = tonumber(redis.call('GET', fence) or '0')
if epoch < at then return at end
if epoch > at then redis.call('SET', fence, ARGV[1]) end
-- The tenant is served here: a move that is still sending is too late.
redis.call('DEL', received)

if verb == 'delete' then
  redis.call('DEL', key)
elseif ttl > 0 then
  redis.call('SET', key, value, 'PX', ARGV[4])
else
  redis.call('SET', key, value)
end

local noted = redis.call('EXISTS', noting) == 1
if verb == 'set' or noted then
  redis.call('ZADD', index, redis.call('INCR', version), key)
else
  redis.call('ZREM', index, key)
end
-- Keys end by their TTL without a word. Two looks at random for each write keep
-- those in the index fewer than the living. Not while a move has to be told of them.
if not noted then
  for _, name in ipairs(redis.call('ZRANDMEMBER', index, 2)) do
    if redis.call('EXISTS', name) == 0 then redis.call('ZREM', index, name) end
  end
end
return 0
