-- Slices of budgets: settles what a node held and gives it anew, for each limit by itself.
-- KEYS: two for each limit, a sorted set of marks and a hash of mark -> cost (field 'used' is their sum).
-- ARGV: shift of the clock in microseconds, then for each limit: window, grain, ceiling, wanted, least, its life while
-- half of the ceiling is free and its life else, and of the slice before: mark, granted, unused. A slice counts at its
-- end; what was used of it counts, once it is settled, from then on. Answers for each limit: granted, mark, life, left, wait.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2] + ARGV[1]
local answer = {}

local function text(number) return string.format('%.0f', number) end

-- Takes a cost off a mark; a mark with nothing left is gone.
local function take(marks, costs, mark, cost)
    if cost == 0 then return end
    redis.call('HINCRBY', costs, 'used', text(-cost))
    if redis.call('HINCRBY', costs, mark, text(-cost)) == 0 then
        redis.call('HDEL', costs, mark)
        redis.call('ZREM', marks, mark)
    end
end

-- Forgets the marks that the window has left behind; answers the oldest of the others.
local function pass(marks, costs, start)
    local oldest = redis.call('ZRANGE', marks, 0, 0)[1]
    while oldest and tonumber(oldest) <= start do
        local cost = redis.call('HGET', costs, oldest)
        if cost then redis.call('HINCRBY', costs, 'used', text(-cost)) end
        redis.call('HDEL', costs, oldest)
        redis.call('ZREM', marks, oldest)
        oldest = redis.call('ZRANGE', marks, 0, 0)[1]
    end
    return oldest
end

local function add(marks, costs, at, grain, cost)
    local mark = text(math.floor(at / grain) * grain + grain - 1)
    redis.call('ZADD', marks, mark, mark)
    redis.call('HINCRBY', costs, mark, cost)
    redis.call('HINCRBY', costs, 'used', cost)
    return mark
end

for i = 1, #KEYS / 2 do
    local marks, costs, base = KEYS[2 * i - 1], KEYS[2 * i], 1 + (i - 1) * 10
    local window, grain, ceiling = tonumber(ARGV[base + 1]), tonumber(ARGV[base + 2]), tonumber(ARGV[base + 3])
    local wanted, least = tonumber(ARGV[base + 4]), tonumber(ARGV[base + 5])
    local long_life, life = tonumber(ARGV[base + 6]), tonumber(ARGV[base + 7])
    local held, granted, unused = ARGV[base + 8], tonumber(ARGV[base + 9]), tonumber(ARGV[base + 10])

    -- A slice whose time is over stays where it is; what is left of a running one moves to now.
    if granted > 0 and redis.call('HEXISTS', costs, held) == 1 then
        if tonumber(held) > now then
            take(marks, costs, held, granted)
            if granted > unused then add(marks, costs, now, grain, text(granted - unused)) end
        else
            take(marks, costs, held, unused)
        end
    end
    local oldest = pass(marks, costs, now - window)

    local left = ceiling - tonumber(redis.call('HGET', costs, 'used') or '0')
    local grant = math.min(wanted, left)
    if grant < least then grant = 0 end
    if left - grant >= ceiling / 2 then life = long_life end
    local wait = oldest and math.max(tonumber(oldest) + window - now, 0) or 0
    local mark = '0'
    if grant > 0 then mark = add(marks, costs, now + life, grain, text(grant)) end
    -- As long as the newest mark counts, which may be that of another node's slice.
    local newest = redis.call('ZRANGE', marks, -1, -1)[1]
    local keep = math.ceil((math.max(tonumber(newest or '0'), now) + window - now) / 1000) + 1000
    redis.call('PEXPIRE', marks, keep)
    redis.call('PEXPIRE', costs, keep)
    for _, number in ipairs({grant, tonumber(mark), life, left - grant, wait}) do answer[#answer + 1] = text(number) end
end
return answer
