"""What keys used of their limits, as all gateways together count it in Redis (the windows are those of `limits`)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections import Counter
from collections.abc import Callable
from typing import Final
from uuid import uuid4

from limits.aio.storage import RedisStorage
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from gateway.auth import Caller
from gateway.limit_ledger import WINDOW_S, Admitted, Left, Standing, left_of, minute_used_up, places_taken

log = logging.getLogger(__name__)

LEASE_S: Final = 30
"""How long a place stays taken after its gateway gave the last sign; a killed one gives none."""
_RENEW_S: Final = 10.0
_ANSWER_S: Final = 0.25
"""How long Redis may take to answer."""
_AWAY_S: Final = 1.0
"""How long Redis is left alone after it failed to answer."""
_LEASE_MS: Final = 1000 * LEASE_S
_PREFIX: Final = "lorry"
_REQUESTS: Final = "requests"
_TOKENS: Final = "tokens"

_TAKE_PLACE: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[1]) then return 0 end
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
"""
_RENEW_PLACES: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for i = 2, #ARGV do redis.call('ZADD', KEYS[1], 'XX', now + ARGV[1], ARGV[i]) end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
"""


class LedgerAway(Exception):
    """Redis does not answer."""


class SharedLedger:
    """Windows and places in Redis; `run` keeps places taken, gives them back and settles, until cancelled."""

    def __init__(self, url: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._redis: Redis = Redis.from_url(
            url,
            socket_timeout=_ANSWER_S,
            socket_connect_timeout=_ANSWER_S,
            retry=Retry(NoBackoff(), 1),  # a connection that a restarted Redis closed is made anew at once
        )
        self._windows = RedisStorage(
            f"async+{url}",
            implementation="redispy",
            key_prefix=_PREFIX,
            connection_pool=self._redis.connection_pool,  # type: ignore[arg-type]  # as its documentation has it
        )
        self._take_place = self._redis.register_script(_TAKE_PLACE)
        self._renew_places = self._redis.register_script(_RENEW_PLACES)
        self._ends: dict[str, float] = {}
        self._leases: dict[str, str] = {}
        self._released: list[tuple[str, str]] = []
        self._settled: Counter[tuple[str, float]] = Counter()
        self._work = asyncio.Event()
        self._away_until = -math.inf

    async def admit(self, caller: Caller, tokens: int) -> Admitted:
        """Count the request; `RateLimited` counts nothing, `LedgerAway` if Redis does not answer or just did not."""
        if self._clock() < self._away_until:
            raise LedgerAway("Redis did not answer a moment ago")
        try:
            admitted = await self._admit(caller, tokens)
        except RedisError as exc:
            self._note_away(exc)
            raise LedgerAway(f"Redis does not answer: {exc}") from exc
        if self._away_until > -math.inf:
            self._away_until = -math.inf
            log.warning("Redis answers again, limits are shared")
        return admitted

    async def _admit(self, caller: Caller, tokens: int) -> Admitted:
        limits, key_id = caller.limits, caller.key_id
        requests = await self._take(key_id, _REQUESTS, limits.requests_per_minute, 1)
        if requests is not None and requests.left < 0:
            await self._give_back(caller, 0)
            raise minute_used_up(caller, Standing(requests, None).given_back(0), 0)
        # Redis counts to 2^63; no more is taken of it than what is too much anyway
        taken = tokens if limits.tokens_per_minute is None else min(tokens, limits.tokens_per_minute + 1)
        standing = Standing(requests, await self._take(key_id, _TOKENS, limits.tokens_per_minute, taken))
        if standing.is_over:
            await self._give_back(caller, taken)
            raise minute_used_up(caller, standing.given_back(taken), tokens)
        lease = ""
        if limits.concurrent_requests is not None:
            lease = uuid4().hex
            place = (limits.concurrent_requests, _LEASE_MS, lease)
            if not await self._take_place(keys=[_places(key_id)], args=place):
                await self._give_back(caller, taken)
                raise places_taken(caller, standing.given_back(taken))
            self._leases[lease] = key_id
        return Admitted(self, key_id, tokens, standing, self._ends.get(_window(key_id, _TOKENS), 0.0), lease)

    async def _take(self, key_id: str, what: str, limit: int | None, amount: int) -> Left | None:
        """What is left of the window when *amount* was taken."""
        if limit is None:
            return None
        window = _window(key_id, what)
        used = await self._windows.incr(window, WINDOW_S, amount)
        now = self._clock()
        if used == amount:  # then Redis let it begin anew
            self._ends[window] = now + WINDOW_S
        elif self._ends.get(window, 0.0) <= now:
            self._ends[window] = now + max(0.0, await self._windows.get_expiry(window) - time.time())
        return left_of(limit, used, self._ends[window] - now)

    async def _give_back(self, caller: Caller, tokens: int) -> None:
        """What a refused request took."""
        if caller.limits.requests_per_minute is not None:
            await self._windows.incr(_window(caller.key_id, _REQUESTS), WINDOW_S, -1)
        if caller.limits.tokens_per_minute is not None and tokens:
            await self._windows.incr(_window(caller.key_id, _TOKENS), WINDOW_S, -tokens)

    def settle(self, admitted: Admitted, tokens: int) -> None:
        """See `Ledger`; in Redis a moment later."""
        if admitted.standing.tokens is not None and tokens != admitted.tokens:
            self._settled[_window(admitted.key_id, _TOKENS), admitted.ends] += tokens - admitted.tokens
            self._work.set()

    def release(self, admitted: Admitted) -> None:
        """See `Ledger`; in Redis a moment later."""
        if (key_id := self._leases.pop(admitted.lease, None)) is not None:
            self._released.append((key_id, admitted.lease))
            self._work.set()

    async def run(self) -> None:
        """Carry out what was settled and released, and renew the places of requests under way, until cancelled."""
        renew_at = self._clock() + _RENEW_S
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, renew_at - self._clock())):
                    await self._work.wait()
            self._work.clear()
            try:
                await self._carry_out()
                if self._clock() >= renew_at:
                    await self._renew()
            except RedisError as exc:
                self._note_away(exc)
            if self._clock() >= renew_at:
                renew_at = self._clock() + _RENEW_S

    async def aclose(self) -> None:
        """Carry out what is left to do, and close the connections; what Redis does not take expires there."""
        with contextlib.suppress(RedisError):
            await self._carry_out()
        await self._redis.aclose()

    async def _carry_out(self) -> None:
        settled, self._settled = self._settled, Counter()
        released, self._released = self._released, []
        now = self._clock()
        for (window, ends), tokens in settled.items():
            if tokens > 0 or now < ends - _ANSWER_S:  # never into a window that does not have them
                await self._windows.incr(window, WINDOW_S, tokens)
        for key_id, lease in released:
            await self._redis.zrem(_places(key_id), lease)

    async def _renew(self) -> None:
        held: dict[str, list[str]] = {}
        for lease, key_id in self._leases.items():
            held.setdefault(key_id, []).append(lease)
        for key_id, leases in held.items():
            await self._renew_places(keys=[_places(key_id)], args=[_LEASE_MS, *leases])

    def _note_away(self, exc: Exception) -> None:
        if self._away_until == -math.inf:
            log.warning("Redis does not answer, each gateway limits alone", extra={"error": str(exc)})
        self._away_until = self._clock() + _AWAY_S


def _window(key_id: str, what: str) -> str:
    return f"{key_id}/{what}"


def _places(key_id: str) -> str:
    return f"{_PREFIX}:{key_id}/places"
