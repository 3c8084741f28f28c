"""Whether a key may send one more request: requests and tokens a minute, requests at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from gateway.errors import RateLimited
from gateway.keys.auth import Caller
from gateway.keys.limit_ledger import FREE, Admitted, LocalLedger
from gateway.keys.shared_limits import LedgerAway, SharedLedger
from gateway.telemetry.metrics import GatewayMetrics

__all__ = ["Admitted", "Limits", "estimate_tokens", "longest_answer"]

_BYTES_PER_TOKEN: Final = 4
"""Of prompts, roughly."""
_BOUNDS: Final = ("max_completion_tokens", "max_tokens", "max_output_tokens")
"""Fields of requests that bound the tokens of the answer."""
_ANSWER_TOKENS: Final = 256
"""What an answer is reckoned with where the request bounds none; the difference is settled when it is known."""


def estimate_tokens(body_bytes: int, max_tokens: int | None) -> int:
    """What a request is admitted with: the tokens of its body, and of the longest answer that it allows."""
    return body_bytes // _BYTES_PER_TOKEN + (_ANSWER_TOKENS if max_tokens is None else max_tokens)


def longest_answer(body: Mapping[str, Any]) -> int | None:
    """Most tokens that all choices of the answer may have together; None where the request's *body* bounds none."""
    for field in _BOUNDS:
        if isinstance(most := body.get(field), int):
            choices = body.get("n")
            return max(0, most) * (choices if isinstance(choices, int) and choices > 0 else 1)
    return None


class Limits:
    """One a gateway. Whoever is admitted is settled, if its usage is known, and released, once each."""

    def __init__(
        self, metrics: GatewayMetrics, url: str | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """*url* is that of the Redis in which all gateways count together; without one each counts alone."""
        self._metrics = metrics
        self._local = LocalLedger(clock)
        self._shared = SharedLedger(url, clock) if url else None
        self.is_shared = self._shared is not None
        """True if `admit_shared` is to be called, False for `admit`."""

    def admit(self, caller: Caller, tokens: int) -> Admitted:
        """Count a request of *tokens* (see `estimate_tokens`) at this gateway; `RateLimited` counts nothing."""
        if caller.limits.are_none:
            return FREE
        try:
            return self._local.admit(caller, tokens)
        except RateLimited:
            self._metrics.rate_limited.labels(caller.name).inc()
            raise

    async def admit_shared(self, caller: Caller, tokens: int) -> Admitted:
        """The same at all gateways together; while Redis does not answer, at this one."""
        if self._shared is None or caller.limits.are_none:
            return self.admit(caller, tokens)
        try:
            return await self._shared.admit(caller, tokens)
        except LedgerAway:
            self._metrics.limited_alone.inc()
            return self.admit(caller, tokens)
        except RateLimited:
            self._metrics.rate_limited.labels(caller.name).inc()
            raise

    def settle(self, admitted: Admitted, tokens: int) -> None:
        """The request used *tokens*, prompt and answer together, instead of what it was estimated at."""
        admitted.ledger.settle(admitted, tokens)

    def release(self, admitted: Admitted) -> None:
        """The request is over."""
        admitted.ledger.release(admitted)

    def headers(self, admitted: Admitted) -> bytes:
        """`x-ratelimit-*` lines for the answer, each with its line end; none without limits a minute."""
        return b"" if admitted is FREE else admitted.standing.lines().encode()

    async def run(self) -> None:
        """Keep Redis up to date until cancelled; returns at once without one."""
        if self._shared is not None:
            await self._shared.run()

    async def aclose(self) -> None:
        """Say the last to Redis, and close its connections."""
        if self._shared is not None:
            await self._shared.aclose()
