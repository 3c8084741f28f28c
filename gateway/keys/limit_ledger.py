"""The use of limits counted in the memory of one gateway, and the record of an admitted request.

A minute is a fixed window: it begins with the first request after the end of the previous one. Sliding windows cannot
give tokens back when an answer is shorter than it might have been, and do not know exactly when tokens are free again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from gateway.errors import RateLimited
from gateway.keys.caller import Caller

WINDOW_S: Final = 60
_BUSY_RETRY_S: Final = 1
"""`Retry-After` where too many requests are under way: the end of none of them is known."""


class LedgerAway(Exception):
    """The ledger that all gateways share does not answer."""


class Remaining(NamedTuple):
    """The rest of one limit after a request; negative if the request asks for more than the rest.

    A tuple, because two are made for every request of a key with limits.
    """

    limit: int
    remaining: int
    reset_s: float
    """Seconds until the whole limit is available again."""


class Standing(NamedTuple):
    """The rest of the limits a minute after a request; None where the key has no such limit."""

    requests: Remaining | None
    tokens: Remaining | None

    @property
    def is_over(self) -> bool:
        """Whether the request asks for more than the rest of a limit."""
        over_requests = self.requests is not None and self.requests.remaining < 0
        return over_requests or (self.tokens is not None and self.tokens.remaining < 0)

    def without(self, tokens: int) -> Standing:
        """The rest as it is without the request, which was estimated at *tokens*."""
        requests = self.requests and self.requests._replace(remaining=self.requests.remaining + 1)
        return Standing(requests, self.tokens and self.tokens._replace(remaining=self.tokens.remaining + tokens))

    def lines(self) -> str:
        """Return the `x-ratelimit-*` header lines in OpenAI's form, each with its line end."""
        requests = "" if self.requests is None else _lines("requests", *self.requests)
        return requests if self.tokens is None else requests + _lines("tokens", *self.tokens)

    def headers(self) -> dict[str, str]:
        """Return the same headers as names and values."""
        pairs = (line.split(": ", 1) for line in self.lines().splitlines())
        return dict(pairs)


def _lines(name: str, limit: int, remaining: int, reset_s: float) -> str:
    return (
        f"x-ratelimit-limit-{name}: {limit}\r\n"
        f"x-ratelimit-remaining-{name}: {remaining if remaining > 0 else 0}\r\n"
        f"x-ratelimit-reset-{name}: {duration(reset_s)}\r\n"
    )


def duration(seconds: float) -> str:
    """Return *seconds* as OpenAI writes them, `12ms`, `1.5s` or `1m0s`: to the millisecond, rounded up."""
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
    """The estimate that it was counted with."""
    standing: Standing
    ends: float
    """When the window ends in which its tokens are counted, on the clock of its ledger."""
    lease: str
    """Id of the request's place among the concurrent ones; empty where one process counts the places."""


class Ledger(Protocol):
    """Where admitted requests are counted. No method raises anything."""

    def correct(self, admitted: Admitted, tokens: int) -> None:
        """Count *tokens*, which prompt and answer used together, in place of the request's estimate."""
        ...

    def withdraw(self, admitted: Admitted) -> None:
        """Take the request and its tokens back out of the minute in which they were counted."""
        ...

    def release(self, admitted: Admitted) -> None:
        """Free the place of a request that is over."""
        ...


class NoLedger:
    """The ledger of requests whose key has no limits; counts nothing."""

    def correct(self, admitted: Admitted, tokens: int) -> None:
        """See `Ledger`."""

    def withdraw(self, admitted: Admitted) -> None:
        """See `Ledger`."""

    def release(self, admitted: Admitted) -> None:
        """See `Ledger`."""


FREE: Final = Admitted(NoLedger(), "", 0, Standing(None, None), 0.0, "")
"""Every request of a key without limits."""


@dataclass(slots=True)
class _Use:
    """The use of one key in the window that ends at *ends*, and how many of its requests are under way."""

    ends: float = -math.inf
    requests: int = 0
    tokens: int = 0
    running: int = 0


class LocalLedger:
    """Windows and places in the memory of this gateway."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._uses: dict[str, _Use] = {}

    def admit(self, caller: Caller, tokens: int) -> Admitted:
        """Count the request; `RateLimited` counts nothing."""
        now = self._clock()
        use = self._use_of(caller.key_id, now)
        limits, reset_s = caller.limits, use.ends - now
        standing = Standing(
            remaining_of(limits.requests_per_minute, use.requests + 1, reset_s),
            remaining_of(limits.tokens_per_minute, use.tokens + tokens, reset_s),
        )
        if standing.is_over:
            raise minute_used_up(caller, standing.without(tokens), tokens)
        if limits.concurrent_requests is not None and use.running >= limits.concurrent_requests:
            raise places_taken(caller, standing.without(tokens))
        use.requests += 1
        use.tokens += tokens
        use.running += 1
        return Admitted(self, caller.key_id, tokens, standing, use.ends, "")

    def correct(self, admitted: Admitted, tokens: int) -> None:
        """See `Ledger`. Use beyond the estimate counts in the current window; unused tokens return to theirs."""
        use = self._uses[admitted.key_id]
        if tokens > admitted.tokens or admitted.ends == use.ends:
            use.tokens = max(0, use.tokens + tokens - admitted.tokens)

    def withdraw(self, admitted: Admitted) -> None:
        """See `Ledger`."""
        use = self._uses[admitted.key_id]
        if admitted.ends == use.ends:
            use.requests -= 1
            use.tokens = max(0, use.tokens - admitted.tokens)

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


def remaining_of(limit: int | None, used: int, reset_s: float) -> Remaining | None:
    """Return the rest of *limit* when *used* of it are used; None without a limit."""
    return None if limit is None else Remaining(limit, limit - used, reset_s)


def minute_used_up(caller: Caller, before: Standing, tokens: int) -> RateLimited:
    """Return the refusal of a request of *tokens* that is more than the rest *before* it."""
    if before.requests is not None and before.requests.remaining < 1:
        limit, _, reset_s = before.requests
        return _refusal(caller, before, f"{limit} requests a minute; try again in {duration(reset_s)}", reset_s)
    limit, remaining, reset_s = before.tokens or Remaining(0, 0, 0.0)
    words = f"{limit} tokens a minute, {max(0, remaining)} remain, this request may use {tokens}"
    # No `Retry-After`: a request that needs more than a whole minute's tokens can never pass.
    if tokens > limit:
        return _refusal(caller, before, f"{words}; make it shorter or lower max_tokens", None)
    return _refusal(caller, before, f"{words}; try again in {duration(reset_s)}", reset_s)


def places_taken(caller: Caller, before: Standing) -> RateLimited:
    """Return the refusal of a request whose key has as many requests under way as it may."""
    words = f"{caller.limits.concurrent_requests} requests at a time; try again when one has ended"
    return _refusal(caller, before, words, _BUSY_RETRY_S)


def _refusal(caller: Caller, before: Standing, words: str, retry_s: float | None) -> RateLimited:
    message = f"rate limit reached for the key {caller.name!r}: {words}"
    retry_after_s = None if retry_s is None else max(1, math.ceil(retry_s))
    return RateLimited(message, retry_after_s=retry_after_s, headers=before.headers())
