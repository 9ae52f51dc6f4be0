-- Deletes some of the tenant's durable keys. With a move: as long as that may write
-- here, so that it begins with nothing. Without: what a tenant that has left at the
-- epoch has left behind, its limits too; only the fence stays. Returns whether there
-- is more, or -1 where it must not be.
local fence, received, index, version, noting = unpack(KEYS, 1, 5)
local epoch, move, count = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local at = tonumber(redis.call('GET', fence) or '0')
if at > epoch then return -1 end
if move ~= '' then
  if at < epoch or redis.call('HGET', received, 'move') ~= move then return -1 end
  redis.call('HSET', received, 'version', '0')
elseif at < epoch then
  redis.call('SET', fence, ARGV[1])
end
local found = redis.call('ZRANGE', index, 0, count - 1)
for _, name in ipairs(found) do
  redis.call('UNLINK', name)
  redis.call('ZREM', index, name)
end
if #found == count then return 1 end
if move == '' then
  redis.call('DEL', received, version, noting)
  for i = 6, #KEYS do redis.call('UNLINK', KEYS[i]) end
end
return 0
