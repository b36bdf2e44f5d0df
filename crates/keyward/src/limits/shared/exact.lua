-- One decision about all limits of a call: all are taken, or none.
-- KEYS: two for each limit, a sorted set of marks and a hash of mark -> cost (field 'used' is their sum).
-- ARGV: shift of the clock in microseconds, 1 for a dry run, then for each limit: window, grain, ceiling, cost,
-- 1 when it refuses. Times are microseconds. Answers whether it was taken, then for each limit: used, wait, fits.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2] + ARGV[1]
local count = #KEYS / 2
local answer, taken = {1}, true

local function text(number) return string.format('%.0f', number) end

for i = 1, count do
    local marks, costs, base = KEYS[2 * i - 1], KEYS[2 * i], 2 + (i - 1) * 5
    local window, ceiling, cost = tonumber(ARGV[base + 1]), tonumber(ARGV[base + 3]), tonumber(ARGV[base + 4])
    local used = tonumber(redis.call('HGET', costs, 'used') or '0')
    for _, mark in ipairs(redis.call('ZRANGEBYSCORE', marks, '-inf', text(now - window))) do
        used = used - tonumber(redis.call('HGET', costs, mark) or '0')
        redis.call('HDEL', costs, mark)
        redis.call('ZREM', marks, mark)
        redis.call('HSET', costs, 'used', text(used))
    end
    local fits = used + cost <= ceiling
    if not fits and ARGV[base + 5] == '1' then taken = false end
    local wait, left, start = 0, used, 0
    repeat
        local oldest = redis.call('ZRANGE', marks, start, start + 15)
        for _, mark in ipairs(oldest) do
            if wait == 0 or (not fits and left + cost > ceiling) then
                wait = tonumber(mark) + window - now
                left = left - tonumber(redis.call('HGET', costs, mark) or '0')
            end
        end
        start = start + 16
    until #oldest < 16 or fits or left + cost <= ceiling
    answer[#answer + 1] = text(used)
    answer[#answer + 1] = text(wait)
    answer[#answer + 1] = fits and 1 or 0
end

if not taken then
    answer[1] = 0
elseif ARGV[2] ~= '1' then
    for i = 1, count do
        local marks, costs, base = KEYS[2 * i - 1], KEYS[2 * i], 2 + (i - 1) * 5
        local window, grain, cost = tonumber(ARGV[base + 1]), tonumber(ARGV[base + 2]), tonumber(ARGV[base + 4])
        local mark = text(math.floor(now / grain) * grain + grain - 1)
        redis.call('ZADD', marks, mark, mark)
        redis.call('HINCRBY', costs, mark, cost)
        redis.call('HINCRBY', costs, 'used', cost)
        local life = math.ceil((window + grain) / 1000) + 1000
        redis.call('PEXPIRE', marks, life)
        redis.call('PEXPIRE', costs, life)
    end
end
return answer
