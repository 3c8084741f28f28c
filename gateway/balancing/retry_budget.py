"""How many requests may be sent again, so that retries do not overload a pool that is going down. Pure.

The rule is that of Finagle's `RetryBudget`, as its documentation has it: the requests of the last seconds pay in, a
fifth of a retry each; a floor is added for times of few requests; every retry takes one out.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

_SLICES: Final = 10
"""Number of pieces of the time that is looked back over, each of which is forgotten as a whole."""


@dataclass(slots=True)
class _Slice:
    began: float
    requests: int = 0
    retries: int = 0


class RetryBudget:
    """Allows *share* of the requests of the last *window_s* seconds, and *floor_per_s* a second, to be retried."""

    def __init__(self, share: float = 0.2, floor_per_s: float = 10.0, window_s: float = 10.0) -> None:
        self._share = share
        self._reserve = floor_per_s * window_s
        self._slice_s = window_s / _SLICES
        self._window_s = window_s
        self._slices: deque[_Slice] = deque()
        self._requests = 0
        self._retries = 0

    def note_requests(self, count: int, now: float) -> None:
        """Count new requests, which may need retries later; retries themselves are not counted here."""
        self._slice(now).requests += count
        self._requests += count

    def spend(self, now: float) -> bool:
        """Return True, and count a retry, if one more is within the budget."""
        # Old slices are forgotten first, so that the sums are those of the window.
        current = self._slice(now)
        if self._retries + 1 > self._reserve + self._share * self._requests:
            return False
        current.retries += 1
        self._retries += 1
        return True

    def _slice(self, now: float) -> _Slice:
        """Return the piece of time that *now* falls into; pieces older than the window are forgotten."""
        if self._slices and now < self._slices[-1].began + self._slice_s:
            return self._slices[-1]
        while self._slices and self._slices[0].began <= now - self._window_s:
            old = self._slices.popleft()
            self._requests -= old.requests
            self._retries -= old.retries
        self._slices.append(_Slice(began=now))
        return self._slices[-1]
