"""The use of limits counted by all gateways together in Redis."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final
from uuid import uuid4

import orjson
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from gateway.keys.caller import Caller
from gateway.keys.limit_ledger import Admitted, LedgerAway, Standing, minute_used_up, places_taken, remaining_of
from gateway.keys.redis_scripts import ADMIT, RENEW, WRITE_BACK

log = logging.getLogger(__name__)

# A third of `LEASE_MS`, so that a place survives a renewal that fails.
_RENEW_S: Final = 10.0
_ANSWER_S: Final = 0.25
"""How long Redis may take to answer."""
_AWAY_S: Final = 1.0
"""How long the gateway does not ask Redis after a failure."""
_CONNECTIONS: Final = 64


@dataclass(slots=True)
class _Unwritten:
    """Changes of one API key that Redis has not received yet."""

    corrections: list[tuple[float, int, int]] = field(default_factory=list)
    """End of the window in which a request was counted; tokens and requests to add to what was counted there."""
    leases: list[str] = field(default_factory=list)
    """Leases of requests that are over."""

    def as_json(self) -> bytes:
        """The argument of `WRITE_BACK` for this API key."""
        return orjson.dumps({"corrections": self.corrections, "leases": self.leases})


class SharedLedger:
    """Windows and places in Redis. `run` renews places, frees them and corrects token counts, until cancelled.

    The script `ADMIT` checks and counts a request in one round trip. Everything after that (the real usage, the end of
    a request) is sent by `run`, so that no answer waits for Redis.
    """

    def __init__(self, url: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._connections = BlockingConnectionPool.from_url(
            url,
            max_connections=_CONNECTIONS,
            timeout=_ANSWER_S,
            socket_timeout=_ANSWER_S,
            socket_connect_timeout=_ANSWER_S,
            retry=Retry(NoBackoff(), 1),  # a connection that a restarted Redis closed is opened anew at once
        )
        self._redis: Redis = Redis(connection_pool=self._connections)
        self._admit_script = self._redis.register_script(ADMIT)
        self._write_back_script = self._redis.register_script(WRITE_BACK)
        self._renew_script = self._redis.register_script(RENEW)
        self._leases: dict[str, str] = {}
        """Lease of a request under way -> id of its API key."""
        self._unwritten: dict[str, _Unwritten] = {}
        """Id of an API key -> what `run` sends next."""
        self._has_unwritten = asyncio.Event()
        self._away_until = -math.inf

    async def admit(self, caller: Caller, tokens: int) -> Admitted:
        """Count the request; `RateLimited` counts nothing, `LedgerAway` if Redis does not answer or just did not."""
        # Without this pause every request would wait `_ANSWER_S` for a Redis that is away.
        if self._clock() < self._away_until:
            raise LedgerAway("Redis did not answer a moment ago")
        limits = caller.limits
        lease = "" if limits.concurrent_requests is None else uuid4().hex
        refused_by, *numbers = (await self._ask_to_admit(caller, tokens, lease)).split()
        requests_used, tokens_used, reset_ms, ends_ms = map(int, numbers)
        standing = Standing(
            remaining_of(limits.requests_per_minute, requests_used, reset_ms / 1000),
            remaining_of(limits.tokens_per_minute, tokens_used, reset_ms / 1000),
        )
        if refused_by == b"minute":
            raise minute_used_up(caller, standing, tokens)
        if refused_by == b"places":
            raise places_taken(caller, standing)
        if lease:
            self._leases[lease] = caller.key_id
        return Admitted(self, caller.key_id, tokens, standing, ends_ms, lease)

    async def _ask_to_admit(self, caller: Caller, tokens: int, lease: str) -> bytes:
        """Return the answer of `ADMIT`. Raises `LedgerAway`."""
        limits, answer = caller.limits, b""
        # Lua counts exactly up to 2^53, so a request counts at most one token more than would be refused anyway
        counted = 0 if limits.tokens_per_minute is None else min(tokens, limits.tokens_per_minute + 1)
        each = (limits.requests_per_minute, limits.tokens_per_minute, limits.concurrent_requests)
        try:
            keys = (_minute(caller.key_id), _places(caller.key_id))
            args = (*("" if limit is None else limit for limit in each), counted, lease)
            answer = bytes(await self._admit_script(keys=keys, args=args))
        except RedisError as exc:
            self._note_away(exc)
            raise LedgerAway(f"Redis does not answer: {exc}") from exc
        finally:
            if lease and not answer:  # Redis may have counted the place of a request that was given up
                self._unwritten_of(caller.key_id).leases.append(lease)
        if self._away_until > -math.inf:
            self._away_until = -math.inf
            log.warning("Redis answers again, gateways count together")
        return answer

    def correct(self, admitted: Admitted, tokens: int) -> None:
        """See `Ledger`; in Redis a moment later."""
        if admitted.standing.tokens is not None and tokens != admitted.tokens:
            correction = (admitted.ends, tokens - admitted.tokens, 0)
            self._unwritten_of(admitted.key_id).corrections.append(correction)

    def withdraw(self, admitted: Admitted) -> None:
        """See `Ledger`; in Redis a moment later."""
        standing = admitted.standing
        if standing.requests is not None or standing.tokens is not None:
            tokens = 0 if standing.tokens is None else admitted.tokens
            self._unwritten_of(admitted.key_id).corrections.append((admitted.ends, -tokens, -1))

    def release(self, admitted: Admitted) -> None:
        """See `Ledger`; in Redis a moment later."""
        if (key_id := self._leases.pop(admitted.lease, None)) is not None:
            self._unwritten_of(key_id).leases.append(admitted.lease)

    def _unwritten_of(self, key_id: str) -> _Unwritten:
        self._has_unwritten.set()
        return self._unwritten.setdefault(key_id, _Unwritten())

    async def run(self) -> None:
        """Send corrections and freed places as they come, and renew the places of requests under way."""
        renew_at = self._clock() + _RENEW_S
        while True:
            with contextlib.suppress(TimeoutError):
                # What comes during a round trip is sent by the next one: batches under load, no delay without.
                async with asyncio.timeout(max(0.0, renew_at - self._clock())):
                    await self._has_unwritten.wait()
            try:
                await self._write_back()
                if self._clock() >= renew_at:
                    await self._renew()
            except RedisError as exc:
                self._note_away(exc)
            # The time moves on also after a failure; a time in the past would turn this loop without a pause.
            if self._clock() >= renew_at:
                renew_at = self._clock() + _RENEW_S

    async def aclose(self) -> None:
        """Send the last corrections and close the connections; what Redis does not take expires there."""
        with contextlib.suppress(RedisError):
            await self._write_back()
        await self._connections.aclose()

    async def _write_back(self) -> None:
        # The event is cleared first: what is added during the round trip sets it again.
        self._has_unwritten.clear()
        unwritten, self._unwritten = self._unwritten, {}
        if unwritten:
            keys = [name for key_id in unwritten for name in (_minute(key_id), _places(key_id))]
            work = [each.as_json() for each in unwritten.values()]
            # A failed batch is not sent again: the script may have run, and places that were not freed expire.
            await self._write_back_script(keys=keys, args=work)

    async def _renew(self) -> None:
        held: dict[str, list[str]] = {}
        for lease, key_id in self._leases.items():
            held.setdefault(key_id, []).append(lease)
        if held:
            keys = [_places(key_id) for key_id in held]
            await self._renew_script(keys=keys, args=[orjson.dumps(leases) for leases in held.values()])

    def _note_away(self, exc: Exception) -> None:
        if self._away_until == -math.inf:
            log.warning("Redis does not answer, each gateway counts alone", extra={"error": str(exc)})
        self._away_until = self._clock() + _AWAY_S


def _minute(key_id: str) -> str:
    return f"lorry:{key_id}/minute"


def _places(key_id: str) -> str:
    return f"lorry:{key_id}/places"
