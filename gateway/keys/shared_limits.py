"""What keys used of their limits, as all gateways together count it in Redis (the windows are those of `limits`)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections import Counter
from collections.abc import Callable
from typing import Final, NamedTuple
from uuid import uuid4

from limits.aio.storage import RedisStorage
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.commands.core import AsyncScript
from redis.exceptions import NoScriptError, RedisError

from gateway.keys.auth import Caller
from gateway.keys.limit_ledger import WINDOW_S, Admitted, Left, Standing, left_of, minute_used_up, places_taken

log = logging.getLogger(__name__)

LEASE_S: Final = 30
"""How long a place stays taken after its gateway gave the last sign; a killed one gives none."""
_RENEW_S: Final = 10.0
_ANSWER_S: Final = 0.25
"""How long Redis may take to answer."""
_AWAY_S: Final = 1.0
"""How long Redis is left alone after it failed to answer."""
_LEASE_MS: Final = 1000 * LEASE_S
_CONNECTIONS: Final = 64
_PREFIX: Final = "lorry"
_REQUESTS: Final = "requests"
_TOKENS: Final = "tokens"
_PLACES: Final = "places"

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
return redis.call('PEXPIRE', KEYS[1], ARGV[1])
"""
_LEAVE_PLACE: Final = "return redis.call('ZREM', KEYS[1], ARGV[1])"


class LedgerAway(Exception):
    """Redis does not answer."""


class _Call(NamedTuple):
    """A script to be run on one key."""

    script: AsyncScript
    key: str
    args: tuple[int | str, ...]


class SharedLedger:
    """Windows and places in Redis; `run` keeps places taken, gives them back and settles, until cancelled."""

    def __init__(self, url: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._connections = BlockingConnectionPool.from_url(
            url,
            max_connections=_CONNECTIONS,
            timeout=_ANSWER_S,
            socket_timeout=_ANSWER_S,
            socket_connect_timeout=_ANSWER_S,
            retry=Retry(NoBackoff(), 1),  # a connection that a restarted Redis closed is made anew at once
        )
        self._redis: Redis = Redis(connection_pool=self._connections)
        self._windows = RedisStorage(
            f"async+{url}",
            implementation="redispy",
            key_prefix=_PREFIX,
            connection_pool=self._connections,  # type: ignore[arg-type]  # as its documentation has it
        )
        self._count = self._redis.register_script(self._windows.bridge.SCRIPT_INCR_EXPIRE)
        self._take_place = self._redis.register_script(_TAKE_PLACE)
        self._leave_place = self._redis.register_script(_LEAVE_PLACE)
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
        # Redis counts to 2^63; no more is taken of it than what is too much anyway
        taken = tokens if limits.tokens_per_minute is None else min(tokens, limits.tokens_per_minute + 1)
        lease = "" if limits.concurrent_requests is None else uuid4().hex
        counts = await self._run(self._taking(caller, taken, lease))
        standing = Standing(
            await self._left(key_id, _REQUESTS, limits.requests_per_minute, counts.get(_REQUESTS, 0), 1),
            await self._left(key_id, _TOKENS, limits.tokens_per_minute, counts.get(_TOKENS, 0), taken),
        )
        has_place = counts.get(_PLACES, 1) == 1
        if standing.is_over or not has_place:
            await self._run(self._giving_back(caller, taken, lease))
            before = standing.given_back(taken)
            raise minute_used_up(caller, before, tokens) if standing.is_over else places_taken(caller, before)
        if lease:
            self._leases[lease] = key_id
        return Admitted(self, key_id, tokens, standing, self._ends.get(_window(key_id, _TOKENS), 0.0), lease)

    def _taking(self, caller: Caller, tokens: int, lease: str) -> dict[str, _Call]:
        limits, calls = caller.limits, {}
        if limits.requests_per_minute is not None:
            calls[_REQUESTS] = self._counting(caller.key_id, _REQUESTS, 1)
        if limits.tokens_per_minute is not None:
            calls[_TOKENS] = self._counting(caller.key_id, _TOKENS, tokens)
        if limits.concurrent_requests is not None:
            place = (limits.concurrent_requests, _LEASE_MS, lease)
            calls[_PLACES] = _Call(self._take_place, _places(caller.key_id), place)
        return calls

    def _giving_back(self, caller: Caller, tokens: int, lease: str) -> dict[str, _Call]:
        limits, calls = caller.limits, {}
        if limits.requests_per_minute is not None:
            calls[_REQUESTS] = self._counting(caller.key_id, _REQUESTS, -1)
        if limits.tokens_per_minute is not None:
            calls[_TOKENS] = self._counting(caller.key_id, _TOKENS, -tokens)
        if lease:
            calls[_PLACES] = _Call(self._leave_place, _places(caller.key_id), (lease,))
        return calls

    def _counting(self, key_id: str, what: str, amount: int) -> _Call:
        window = self._windows.bridge.prefixed_key(_window(key_id, what))
        return _Call(self._count, window, (WINDOW_S, amount))

    async def _left(self, key_id: str, what: str, limit: int | None, used: int, amount: int) -> Left | None:
        """What is left of the window of which *used* is used, with the *amount* that was just taken."""
        if limit is None:
            return None
        window, now = _window(key_id, what), self._clock()
        if used == amount:  # then Redis let it begin anew
            self._ends[window] = now + WINDOW_S
        elif self._ends.get(window, 0.0) <= now:
            self._ends[window] = now + max(0.0, await self._windows.get_expiry(window) - time.time())
        return left_of(limit, used, self._ends[window] - now)

    async def _run(self, calls: dict[str, _Call]) -> dict[str, int]:
        """What each call answers; all in one round trip, unless Redis was started since it was told the scripts."""
        try:
            return await self._run_known(calls)
        except NoScriptError:
            for call in calls.values():
                await self._redis.script_load(call.script.script)
            return await self._run_known(calls)

    async def _run_known(self, calls: dict[str, _Call]) -> dict[str, int]:
        async with self._redis.pipeline(transaction=False) as pipeline:
            for call in calls.values():
                pipeline.evalsha(call.script.sha, 1, call.key, *call.args)
            return dict(zip(calls, await pipeline.execute(), strict=True))

    def settle(self, admitted: Admitted, tokens: int) -> None:
        """See `Ledger`; in Redis a moment later."""
        if admitted.standing.tokens is not None and tokens != admitted.tokens:
            self._settled[admitted.key_id, admitted.ends] += tokens - admitted.tokens
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
        await self._connections.aclose()

    async def _carry_out(self) -> None:
        settled, self._settled = self._settled, Counter()
        released, self._released = self._released, []
        now = self._clock()
        calls = {
            f"{key_id} {ends}": self._counting(key_id, _TOKENS, tokens)
            for (key_id, ends), tokens in settled.items()
            if tokens > 0 or now < ends - _ANSWER_S  # never into a window that does not have them
        }
        calls |= {lease: _Call(self._leave_place, _places(key_id), (lease,)) for key_id, lease in released}
        if calls:
            await self._run(calls)

    async def _renew(self) -> None:
        held: dict[str, list[str]] = {}
        for lease, key_id in self._leases.items():
            held.setdefault(key_id, []).append(lease)
        calls = {
            key_id: _Call(self._renew_places, _places(key_id), (_LEASE_MS, *leases)) for key_id, leases in held.items()
        }
        if calls:
            await self._run(calls)

    def _note_away(self, exc: Exception) -> None:
        if self._away_until == -math.inf:
            log.warning("Redis does not answer, each gateway limits alone", extra={"error": str(exc)})
        self._away_until = self._clock() + _AWAY_S


def _window(key_id: str, what: str) -> str:
    return f"{key_id}/{what}"


def _places(key_id: str) -> str:
    return f"{_PREFIX}:{key_id}/{_PLACES}"
