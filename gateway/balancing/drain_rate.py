"""How fast a queue moves. Pure."""

from __future__ import annotations

from collections import deque
from typing import Final

_DEPARTURES: Final = 64
"""How many of the last departures the drain rate is taken from."""


class DrainRate:
    """How many requests depart from a pool in a second while others wait for it; times without a queue do not count."""

    def __init__(self) -> None:
        self._departed_at: deque[float] = deque(maxlen=_DEPARTURES)
        self._busy_s = 0.0
        self._busy_since: float | None = None

    def set_busy(self, busy: bool, now: float) -> None:
        """Note whether requests wait from now on."""
        if busy and self._busy_since is None:
            self._busy_since = now
        elif not busy and self._busy_since is not None:
            self._busy_s += now - self._busy_since
            self._busy_since = None

    def departed(self, now: float) -> None:
        """Note a departure, if requests wait."""
        if self._busy_since is not None:
            self._departed_at.append(self._clock(now))

    def forget(self) -> None:
        """Start anew, as the pool runs another number of requests now."""
        self._departed_at.clear()
        self._busy_s = 0.0
        self._busy_since = None

    def per_s(self, now: float) -> float | None:
        """Return the rate of the last departures, None before there was one; the rate falls while nothing departs."""
        # Until there are as many departures as are kept, the rate counts from the zero of the clock.
        began = self._departed_at[0] if len(self._departed_at) == _DEPARTURES else 0.0
        seconds = self._clock(now) - began
        return len(self._departed_at) / seconds if self._departed_at and seconds > 0 else None

    def _clock(self, now: float) -> float:
        return self._busy_s + (0.0 if self._busy_since is None else now - self._busy_since)
