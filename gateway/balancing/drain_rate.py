"""How fast a queue moves."""

from __future__ import annotations

from collections import deque
from typing import Final

_DEPARTURES: Final = 64
"""The drain rate is that of the last so many departures."""


class DrainRate:
    """How many requests leave a pool in a second while others wait for it; times without a queue do not count."""

    def __init__(self) -> None:
        self._left_at: deque[float] = deque(maxlen=_DEPARTURES)
        self._busy_s = 0.0
        self._busy_since: float | None = None

    def set_busy(self, busy: bool, now: float) -> None:
        """From now on somebody waits, or nobody."""
        if busy and self._busy_since is None:
            self._busy_since = now
        elif not busy and self._busy_since is not None:
            self._busy_s += now - self._busy_since
            self._busy_since = None

    def departed(self, now: float) -> None:
        """One has left."""
        if self._busy_since is not None:
            self._left_at.append(self._clock(now))

    def forget(self) -> None:
        """The pool is another one now."""
        self._left_at.clear()
        self._busy_s = 0.0
        self._busy_since = None

    def per_s(self, now: float) -> float | None:
        """The rate of the last departures; None before there was one. It falls while nothing leaves."""
        began = self._left_at[0] if len(self._left_at) == _DEPARTURES else 0.0
        seconds = self._clock(now) - began
        return len(self._left_at) / seconds if self._left_at and seconds > 0 else None

    def _clock(self, now: float) -> float:
        return self._busy_s + (0.0 if self._busy_since is None else now - self._busy_since)
