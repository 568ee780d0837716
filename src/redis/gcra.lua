-- One decision of a shared rate over one or more limits, all or nothing.
--
-- Each key holds the state of one limit. The level is what has been spent and not yet worked off, in parts of a unit of
-- cost: a unit has `period` parts, and `count` parts are worked off in a microsecond. In these parts everything is a whole
-- number, and up to 2^53 Lua counts whole numbers exactly (half of that is the most that is remembered); a floating time of
-- arrival would lose a unit now and then.
--
-- KEYS: one for each limit.
-- ARGV[1]: the time in microseconds; empty: the server's (anything else is for tests).
-- ARGV[2]: when the one who asks has given up, in microseconds; 0: never. What comes later changes nothing.
-- ARGV[3]: "spend", "settle", or "probe", which finds out whether scripts can write here: the one key is of no limit.
-- Then five numbers for each limit: count, period, burst, and
--   to spend: the cost, and the most that is wanted where more than the cost is welcome;
--   to settle: what is owed on top or, negative, given back, and when that was spent.
-- Answers 1 (done), 0 (short) or -1 (too late), the time, and for each limit: what was spent, what remains, how much too early
-- it is, and until all is back (both in microseconds). Errors of the store are answered as they are, so that their first word
-- tells what they are about; before Redis 7, a script that raises them hides it.

local EXACT = 4503599627370496
local FIELDS = 5

local handed_in = tonumber(ARGV[1])
local now = handed_in
if not now then
    local time = redis.call('TIME')
    now = time[1] * 1000000 + time[2]
end
local deadline = tonumber(ARGV[2])
if deadline > 0 and now > deadline then
    return { -1, now }
end
if ARGV[3] == 'probe' then
    local written = redis.pcall('SET', KEYS[1], '', 'PX', '1000')
    return written.err and written or { 1, now }
end
local spending = ARGV[3] == 'spend'

-- level * to / from, rounded up. The product of all of the level could be too large to be exact.
local function scaled(level, from, to)
    local rest = level % from
    return math.min(EXACT, (level - rest) / from * to + math.ceil(rest * to / from))
end

-- The level now. A clock that has stepped back finds more to be worked off, so that no time is counted twice.
local function level_now(level, stamp, count)
    local passed = now - stamp
    if passed >= level / count then
        return 0
    end
    return math.min(EXACT, level - passed * count)
end

-- Or nothing, and why.
local function read(key, index)
    local first = 4 + (index - 1) * FIELDS
    local limit = {
        key = key,
        count = tonumber(ARGV[first]),
        period = tonumber(ARGV[first + 1]),
        burst = tonumber(ARGV[first + 2]),
        cost = tonumber(ARGV[first + 3]),
        want = tonumber(ARGV[first + 4]),
        spent_at = tonumber(ARGV[first + 4]),
        level = 0,
        since = now,
        spent = 0,
        wait = 0,
    }
    limit.full = limit.burst * limit.period
    local kept = redis.pcall('GET', key)
    if not kept then
        return limit
    end
    if type(kept) == 'table' then
        return nil, kept
    end
    local numbers = {}
    for number in string.gmatch(kept, '%d+') do
        numbers[#numbers + 1] = tonumber(number)
    end
    if #numbers ~= 6 then
        return nil, redis.error_reply('NOTARATE the key ' .. key .. ' holds something else than a rate')
    end
    local level, stamp, since, count, period, burst = unpack(numbers)
    level = level_now(level, stamp, count)
    if level > 0 then
        limit.since = since
    end
    limit.changed = count ~= limit.count or period ~= limit.period or burst ~= limit.burst
    if limit.changed then
        -- What is left or owed stays the same share of the burst.
        if burst == limit.burst then
            level = scaled(level, period, limit.period)
        else
            level = scaled(level, burst * period, limit.full)
        end
    end
    limit.level = level
    return limit
end

local function write(limit)
    -- Once everything is worked off, no key says the same. Where time is handed in, the server's own must not interfere.
    local expires = math.max(1, math.ceil(limit.level / limit.count / 1000)) + (handed_in and 60000 or 0)
    local kept = string.format('%.0f %.0f %.0f %.0f %.0f %.0f',
        limit.level, now, limit.since, limit.count, limit.period, limit.burst)
    return redis.pcall('SET', limit.key, kept, 'PX', string.format('%.0f', expires))
end

local function spend(limit)
    local room = math.floor((limit.full - limit.level) / limit.period)
    limit.spent = math.max(limit.cost, math.min(limit.want, room))
    limit.level = limit.level + limit.spent * limit.period
    limit.changed = limit.changed or limit.spent > 0
end

local function settle(limit)
    -- Once all was worked off, time has given back what was spent before.
    if limit.cost < 0 and limit.spent_at < limit.since then
        return
    end
    local level = math.max(0, math.min(EXACT, limit.level + limit.cost * limit.period))
    limit.changed = limit.changed or level ~= limit.level
    limit.level = level
end

local limits = {}
local short = false
for index, key in ipairs(KEYS) do
    local limit, failed = read(key, index)
    if failed then
        return failed
    end
    local over = limit.level + limit.cost * limit.period - limit.full
    if spending and over > 0 then
        limit.wait = math.min(EXACT, math.ceil(over / limit.count))
        short = true
    end
    limits[index] = limit
end

for _, limit in ipairs(limits) do
    if not short then
        if spending then
            spend(limit)
        else
            settle(limit)
        end
    end
    if limit.changed then
        local written = write(limit)
        if written.err then
            return written
        end
    end
end

local answer = { short and 0 or 1, now }
for _, limit in ipairs(limits) do
    answer[#answer + 1] = limit.spent
    answer[#answer + 1] = math.max(0, math.floor((limit.full - limit.level) / limit.period))
    answer[#answer + 1] = limit.wait
    answer[#answer + 1] = math.ceil(limit.level / limit.count)
end
return answer
