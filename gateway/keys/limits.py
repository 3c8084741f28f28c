"""Admission of requests by the limits of their API key: requests and tokens a minute, concurrent requests."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway.errors import RateLimited
from gateway.keys.caller import Caller
from gateway.keys.limit_ledger import FREE, Admitted, LedgerAway, LocalLedger
from gateway.telemetry.metrics import GatewayMetrics

if TYPE_CHECKING:
    from gateway.keys.shared_limits import SharedLedger


class RateLimiter:
    """Admits the requests of one gateway.

    Every admitted request is released once; before that its tokens are corrected once, if its usage is known.
    """

    def __init__(
        self, metrics: GatewayMetrics, url: str | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Count in the Redis at *url* together with all other gateways, or alone without a *url*."""
        self._metrics = metrics
        self._local = LocalLedger(clock)
        self._shared = _shared_ledger(url, clock) if url else None
        self.is_shared = self._shared is not None
        """Whether callers must use `admit_shared` instead of `admit`."""

    def admit(self, caller: Caller, tokens: int) -> Admitted:
        """Count a request of *tokens* (an estimate) at this gateway; `RateLimited` counts nothing."""
        if not caller.is_limited:
            return FREE
        try:
            return self._local.admit(caller, tokens)
        except RateLimited:
            self._metrics.rate_limited.labels(caller.name).inc()
            raise

    async def admit_shared(self, caller: Caller, tokens: int) -> Admitted:
        """Count the request at all gateways together, or at this one while Redis does not answer; see `admit`."""
        if self._shared is None or not caller.is_limited:
            return self.admit(caller, tokens)
        try:
            return await self._shared.admit(caller, tokens)
        except LedgerAway:
            self._metrics.limited_alone.inc()
            return self.admit(caller, tokens)
        except RateLimited:
            self._metrics.rate_limited.labels(caller.name).inc()
            raise

    def correct(self, admitted: Admitted, tokens: int) -> None:
        """Count *tokens*, which prompt and answer used together, in place of the request's estimate."""
        admitted.ledger.correct(admitted, tokens)

    def withdraw(self, admitted: Admitted) -> Admitted:
        """Count a request against no minute, as no engine was asked; return it as it stands then, to be released."""
        if admitted is FREE:
            return FREE
        admitted.ledger.withdraw(admitted)
        return admitted._replace(tokens=0, standing=admitted.standing.without(admitted.tokens))

    def release(self, admitted: Admitted) -> None:
        """Free the place of a request that is over."""
        admitted.ledger.release(admitted)

    def headers(self, admitted: Admitted) -> bytes:
        """Return the `x-ratelimit-*` lines for the answer, each with its line end; empty without limits a minute."""
        return b"" if admitted is FREE else admitted.standing.lines().encode()

    async def run(self) -> None:
        """Keep Redis up to date until cancelled; returns at once without one."""
        if self._shared is not None:
            await self._shared.run()

    async def aclose(self) -> None:
        """Send Redis the last corrections and close its connections."""
        if self._shared is not None:
            await self._shared.aclose()


def _shared_ledger(url: str, clock: Callable[[], float]) -> SharedLedger:
    # Redis' client takes 16 MB of memory, and most gateways count alone.
    from gateway.keys.shared_limits import SharedLedger

    return SharedLedger(url, clock)
