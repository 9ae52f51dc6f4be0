-- Reads what changed after a version, oldest first, a page of it. Returns whether it
-- is from the beginning, the version that the page reaches, whether there is more,
-- and name, value (false: gone) and expiry (ms; -1: none) of each key.
local index, version, noting, fence = unpack(KEYS)
local since, move, raise = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local count, bytes, notes = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]

local now = tonumber(redis.call('GET', version) or '0')
local whole = 0
if since == 0 or since > now or redis.call('GET', noting) ~= move then
  whole, since = 1, 0 -- deletions since then may have been forgotten
end
redis.call('SET', noting, move, 'PX', notes)
-- The source is frozen: after this no write of an older epoch comes in.
if raise > tonumber(redis.call('GET', fence) or '0') then redis.call('SET', fence, ARGV[3]) end

local out, size, taken, reached = {}, 0, 0, since
local function add(name)
  local value = redis.call('GET', name)
  out[#out + 1] = name
  out[#out + 1] = value
  out[#out + 1] = redis.call('PEXPIRETIME', name)
  size = size + #name + #(value or '')
end
local found = redis.call('ZRANGEBYSCORE', index, string.format('(%.0f', since), '+inf', 'WITHSCORES', 'LIMIT', 0, count)
for i = 1, #found, 2 do
  if size >= bytes then break end
  add(found[i])
  taken, reached = taken + 1, tonumber(found[i + 1])
end
local more = (taken < #found / 2 or taken == count) and 1 or 0
if more == 0 then
  reached = now
  if raise > 0 then -- limits are not indexed; they come last
    for i = 5, #KEYS do
      if redis.call('EXISTS', KEYS[i]) == 1 then add(KEYS[i]) end
    end
  end
end
return {whole, reached, more, out}
