"""The Lua scripts by which gateways count together in Redis; Redis runs each one as a whole, with nothing in between.

Every API key has two entries. `lorry:ID/minute` is a hash of the requests and tokens counted in the current window and
of the time at which that window ends. `lorry:ID/places` is a sorted set of leases, one for each request under way,
scored by the time at which the lease expires. All times are milliseconds on the clock of Redis, the only clock that all
gateways share.
"""

from __future__ import annotations

from typing import Final

from gateway.keys.limit_ledger import WINDOW_S

WINDOW_MS: Final = 1000 * WINDOW_S
LEASE_MS: Final = 30_000
"""How long a place stays occupied after its gateway last renewed it; a killed gateway renews nothing."""

_NOW: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""

ADMIT: Final = f"""{_NOW}
-- KEYS: minute, places; ARGV: limits of requests, of tokens and of places ('' for none), tokens, lease
local request_limit, token_limit, place_limit = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local requests, tokens, ends = 0, 0, now + {WINDOW_MS}
local refused_by, is_new = '-', true
if request_limit or token_limit then
  local minute = redis.call('HMGET', KEYS[1], 'requests', 'tokens', 'ends')
  if minute[3] and tonumber(minute[3]) > now then
    requests, tokens, ends, is_new = tonumber(minute[1]), tonumber(minute[2]), tonumber(minute[3]), false
  end
  if (request_limit and requests + 1 > request_limit) or (token_limit and tokens + ARGV[4] > token_limit) then
    refused_by = 'minute'
  end
end
if place_limit and refused_by == '-' then
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
  if redis.call('ZCARD', KEYS[2]) >= place_limit then
    refused_by = 'places'
  else
    redis.call('ZADD', KEYS[2], now + {LEASE_MS}, ARGV[5])
    redis.call('PEXPIRE', KEYS[2], {LEASE_MS})
  end
end
-- a refused request counts nothing, and the place was the last check
if (request_limit or token_limit) and refused_by == '-' then
  requests, tokens = requests + 1, tokens + ARGV[4]
  redis.call('HSET', KEYS[1], 'requests', requests, 'tokens', tokens, 'ends', ends)
  if is_new then redis.call('PEXPIREAT', KEYS[1], ends) end
end
return string.format('%s %d %d %d %d', refused_by, requests, tokens, ends - now, ends)
"""
"""Admit one request or refuse it; five words, since one string is read faster than a list.

They are `-`, `minute` or `places` (which of them refused the request); requests and tokens in the window, the admitted
request included; milliseconds until the window ends; the time at which it ends.
"""

WRITE_BACK: Final = f"""{_NOW}
-- KEYS: minute and places of each API key; ARGV: for each API key JSON of
-- {{"corrections": [[end of the window that has them, tokens to add, requests to add], ...], "leases": [...]}}
for number = 1, #ARGV do
  local minute_key, places_key = KEYS[2 * number - 1], KEYS[2 * number]
  local work = cjson.decode(ARGV[number])
  for _, lease in ipairs(work.leases) do redis.call('ZREM', places_key, lease) end
  for _, correction in ipairs(work.corrections) do
    local minute = redis.call('HMGET', minute_key, 'tokens', 'ends', 'requests')
    local is_open = minute[2] and tonumber(minute[2]) > now
    -- tokens go back only into the window that they came from; what was used beyond the estimate counts now
    if is_open and (correction[2] > 0 or correction[1] == tonumber(minute[2])) then
      local tokens, requests = math.max(0, minute[1] + correction[2]), math.max(0, minute[3] + correction[3])
      redis.call('HSET', minute_key, 'tokens', tokens, 'requests', requests)
    elseif not is_open and correction[2] > 0 then
      redis.call('HSET', minute_key, 'requests', 0, 'tokens', correction[2], 'ends', now + {WINDOW_MS})
      redis.call('PEXPIREAT', minute_key, now + {WINDOW_MS})
    end
  end
end
"""
"""Correct the tokens of requests whose usage is known, and free the places of requests that are over."""

# `XX` renews only: a place that expired, or was freed meanwhile, must not come back.
RENEW: Final = f"""{_NOW}
-- KEYS: places of each API key; ARGV: for each API key a JSON list of leases
for number = 1, #ARGV do
  for _, lease in ipairs(cjson.decode(ARGV[number])) do
    redis.call('ZADD', KEYS[number], 'XX', now + {LEASE_MS}, lease)
  end
  redis.call('PEXPIRE', KEYS[number], {LEASE_MS})
end
"""
"""Renew the leases of requests that are under way; a lease that has expired stays away."""
