"""How long other processes have been silent, by a clock that does not jump.

Wall clocks jump: a machine wakes up, a virtual machine moves, somebody sets the time, two machines differ. A time that
another process wrote is therefore only a mark here, and how long the mark has not changed is measured on this process'
own steady clock. A process that has just started knows of no silence and waits its full length.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from threading import Lock


class SilenceWatch:
    """Remembers since when each mark has been the same; safe to call from many threads."""

    def __init__(self, steady: Callable[[], float]) -> None:
        """*steady* returns seconds and never jumps, as `time.monotonic`."""
        self._steady = steady
        self._seen: dict[str, tuple[Hashable, float]] = {}
        self._lock = Lock()

    def look(self, marks: Mapping[str, Hashable]) -> dict[str, float]:
        """Return for how many seconds each of *marks* has been the same; names that are missing are forgotten."""
        now = self._steady()
        with self._lock:
            self._seen = {
                name: seen if (seen := self._seen.get(name)) is not None and seen[0] == mark else (mark, now)
                for name, mark in marks.items()
            }
            return {name: now - since for name, (_, since) in self._seen.items()}
