-- Slices of budgets: settles what a node held and gives it anew, for each limit by itself.
-- KEYS: two for each limit, a sorted set of marks and a hash of mark -> cost (field 'used' is their sum).
-- ARGV: shift of the clock in microseconds, then for each limit: window, grain, ceiling, wanted, least, life, and of
-- the slice before: mark, granted, unused. A slice counts at its end; what was used of it counts, once it is settled,
-- from then on. Answers for each limit: granted, mark, left, wait.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2] + ARGV[1]
local answer = {}

local function text(number) return string.format('%.0f', number) end

-- Takes off a mark; what has nothing left is forgotten.
local function take(marks, costs, mark, cost)
    if cost > 0 then
        redis.call('HINCRBY', costs, mark, text(-cost))
        redis.call('HINCRBY', costs, 'used', text(-cost))
    end
    if redis.call('HGET', costs, mark) == '0' then
        redis.call('HDEL', costs, mark)
        redis.call('ZREM', marks, mark)
    end
end

local function add(marks, costs, at, grain, cost)
    local mark = text(math.floor(at / grain) * grain + grain - 1)
    redis.call('ZADD', marks, mark, mark)
    redis.call('HINCRBY', costs, mark, cost)
    redis.call('HINCRBY', costs, 'used', cost)
    return mark
end

for i = 1, #KEYS / 2 do
    local marks, costs, base = KEYS[2 * i - 1], KEYS[2 * i], 1 + (i - 1) * 9
    local window, grain, ceiling = tonumber(ARGV[base + 1]), tonumber(ARGV[base + 2]), tonumber(ARGV[base + 3])
    local wanted, least, life = tonumber(ARGV[base + 4]), tonumber(ARGV[base + 5]), tonumber(ARGV[base + 6])
    local held, granted, unused = ARGV[base + 7], tonumber(ARGV[base + 8]), tonumber(ARGV[base + 9])

    -- A slice whose time is over stays where it is; what is left of a running one moves to now.
    if granted > 0 and redis.call('HEXISTS', costs, held) == 1 then
        if tonumber(held) > now then
            take(marks, costs, held, granted)
            if granted > unused then add(marks, costs, now, grain, text(granted - unused)) end
        else
            take(marks, costs, held, unused)
        end
    end
    for _, mark in ipairs(redis.call('ZRANGEBYSCORE', marks, '-inf', text(now - window))) do
        take(marks, costs, mark, tonumber(redis.call('HGET', costs, mark) or '0'))
    end

    local left = ceiling - tonumber(redis.call('HGET', costs, 'used') or '0')
    local grant = math.min(wanted, left)
    if grant < least then grant = 0 end
    local oldest = redis.call('ZRANGE', marks, 0, 0)[1]
    local wait = oldest and math.max(tonumber(oldest) + window - now, 0) or 0
    local mark = '0'
    if grant > 0 then mark = add(marks, costs, now + life, grain, text(grant)) end
    local keep = math.ceil((window + grain + life) / 1000) + 1000
    redis.call('PEXPIRE', marks, keep)
    redis.call('PEXPIRE', costs, keep)
    for _, number in ipairs({grant, tonumber(mark), left - grant, wait}) do answer[#answer + 1] = text(number) end
end
return answer
