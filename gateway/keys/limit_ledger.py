"""What keys used of their limits, as one gateway counts it in its own memory; and what an admitted request is.

A minute begins with the first request after the last one's end (a fixed window). Of the usual windows it is the one
that can give tokens back when an answer was shorter than it might have been, and knows exactly when there is more.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from gateway.errors import RateLimited
from gateway.keys.auth import Caller

WINDOW_S: Final = 60
_BUSY_RETRY_S: Final = 1
"""Nobody knows when a request that is under way ends."""


class Left(NamedTuple):
    """What a request leaves of one limit; less than nothing if there was too little. Tuples, as they are many."""

    limit: int
    left: int
    reset_s: float
    """Until the whole limit is there again."""


class Standing(NamedTuple):
    """What a request leaves of the limits a minute; None where there is none."""

    requests: Left | None
    tokens: Left | None

    @property
    def is_over(self) -> bool:
        """There was too little of one of them."""
        over_requests = self.requests is not None and self.requests.left < 0
        return over_requests or (self.tokens is not None and self.tokens.left < 0)

    def given_back(self, tokens: int) -> Standing:
        """What there is without the request, which was of so many *tokens*."""
        requests = self.requests and self.requests._replace(left=self.requests.left + 1)
        return Standing(requests, self.tokens and self.tokens._replace(left=self.tokens.left + tokens))

    def lines(self) -> str:
        """The `x-ratelimit-*` header lines, as OpenAI has them, each with its line end."""
        requests = "" if self.requests is None else _lines("requests", *self.requests)
        return requests if self.tokens is None else requests + _lines("tokens", *self.tokens)

    def headers(self) -> dict[str, str]:
        """The same as names and values."""
        pairs = (line.split(": ", 1) for line in self.lines().splitlines())
        return dict(pairs)


def _lines(name: str, limit: int, left: int, reset_s: float) -> str:
    return (
        f"x-ratelimit-limit-{name}: {limit}\r\n"
        f"x-ratelimit-remaining-{name}: {left if left > 0 else 0}\r\n"
        f"x-ratelimit-reset-{name}: {duration(reset_s)}\r\n"
    )


def duration(seconds: float) -> str:
    """`12ms`, `1.5s`, `1m0s`: to the millisecond, rounded up."""
    milliseconds = max(0, math.ceil(seconds * 1000))
    if 0 < milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes}m{rest / 1000:g}s" if minutes else f"{rest / 1000:g}s"


class Admitted(NamedTuple):
    """A request that was let in."""

    ledger: Ledger
    key_id: str
    tokens: int
    """What it was estimated at."""
    standing: Standing
    ends: float
    """When the minute ends in which its tokens are counted, on the clock of its ledger."""
    lease: str
    """Its place among the requests at a time; empty where places are counted in one process."""


class Ledger(Protocol):
    """Where admitted requests are on the books. Neither method raises anything."""

    def settle(self, admitted: Admitted, tokens: int) -> None:
        """The request used *tokens*, prompt and answer together, instead of what it was estimated at."""
        ...

    def release(self, admitted: Admitted) -> None:
        """The request is over."""
        ...


class NoLedger:
    """Where requests without limits are: nowhere."""

    def settle(self, admitted: Admitted, tokens: int) -> None:
        """See `Ledger`."""

    def release(self, admitted: Admitted) -> None:
        """See `Ledger`."""


FREE: Final = Admitted(NoLedger(), "", 0, Standing(None, None), 0.0, "")
"""Every request of a key without limits."""


@dataclass(slots=True)
class _Use:
    """What one key used in the minute that ends at *ends*, and how many of its requests are under way."""

    ends: float = -math.inf
    requests: int = 0
    tokens: int = 0
    running: int = 0


class LocalLedger:
    """What the keys used at this gateway."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._uses: dict[str, _Use] = {}

    def admit(self, caller: Caller, tokens: int) -> Admitted:
        """Count the request; `RateLimited` counts nothing."""
        now = self._clock()
        use = self._use_of(caller.key_id, now)
        limits, reset_s = caller.limits, use.ends - now
        standing = Standing(
            left_of(limits.requests_per_minute, use.requests + 1, reset_s),
            left_of(limits.tokens_per_minute, use.tokens + tokens, reset_s),
        )
        if standing.is_over:
            raise minute_used_up(caller, standing.given_back(tokens), tokens)
        if limits.concurrent_requests is not None and use.running >= limits.concurrent_requests:
            raise places_taken(caller, standing.given_back(tokens))
        use.requests += 1
        use.tokens += tokens
        use.running += 1
        return Admitted(self, caller.key_id, tokens, standing, use.ends, "")

    def settle(self, admitted: Admitted, tokens: int) -> None:
        """See `Ledger`. More than estimated counts in the minute that is now, less is given back in its own only."""
        use = self._uses[admitted.key_id]
        if tokens > admitted.tokens or admitted.ends == use.ends:
            use.tokens = max(0, use.tokens + tokens - admitted.tokens)

    def release(self, admitted: Admitted) -> None:
        """See `Ledger`."""
        self._uses[admitted.key_id].running -= 1

    def _use_of(self, key_id: str, now: float) -> _Use:
        use = self._uses.get(key_id)
        if use is None:
            use = self._uses[key_id] = _Use()
        if now >= use.ends:
            use.ends, use.requests, use.tokens = now + WINDOW_S, 0, 0
        return use


def left_of(limit: int | None, used: int, reset_s: float) -> Left | None:
    """What is left when *used* is used of *limit*."""
    return None if limit is None else Left(limit, limit - used, reset_s)


def minute_used_up(caller: Caller, before: Standing, tokens: int) -> RateLimited:
    """The refusal of a request of *tokens* for which there is too little *before* it."""
    if before.requests is not None and before.requests.left < 1:
        limit, _, reset_s = before.requests
        return _refusal(caller, before, f"{limit} requests a minute; try again in {duration(reset_s)}", reset_s)
    limit, left, reset_s = before.tokens or Left(0, 0, 0.0)
    words = f"{limit} tokens a minute, left are {max(0, left)}, this request may take {tokens}"
    if tokens > limit:
        return _refusal(caller, before, f"{words}; make it shorter or lower max_tokens", None)
    return _refusal(caller, before, f"{words}; try again in {duration(reset_s)}", reset_s)


def places_taken(caller: Caller, before: Standing) -> RateLimited:
    """The refusal of a request while as many of its key are under way as may be."""
    words = f"{caller.limits.concurrent_requests} requests at a time; try again when one has ended"
    return _refusal(caller, before, words, _BUSY_RETRY_S)


def _refusal(caller: Caller, before: Standing, words: str, retry_s: float | None) -> RateLimited:
    message = f"rate limit reached for the key {caller.name!r}: {words}"
    retry_after_s = None if retry_s is None else max(1, math.ceil(retry_s))
    return RateLimited(message, retry_after_s=retry_after_s, headers=before.headers())
