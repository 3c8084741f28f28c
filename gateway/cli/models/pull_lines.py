"""How far a pull is: a line with a bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import deque
from typing import Final, Self

from rich.console import Console

from gateway.cli.following.live_line import LiveLine
from hubs.fetching import Progress

_SPEED_OVER_S: Final = 5.0


class PullLines:
    """Shows bytes, speed, what is left, and which files come now; used as a context manager."""

    def __init__(self, console: Console) -> None:
        self._line = LiveLine(console)
        self._said = 0
        self._received: deque[tuple[float, int]] = deque()

    def show(self, progress: Progress) -> None:
        """Show how far it is now, and each new sentence of it once."""
        for sentence in progress.notes[self._said :]:
            self.say(sentence)
        self._said = len(progress.notes)
        here = progress.kept_bytes + progress.received_bytes
        speed = self._speed(progress.received_bytes)
        parts = [f"{_size(here)} of {_size(progress.total_bytes)}"]
        if speed > 0:
            parts += [f"{_size(round(speed))}/s", f"{_left((progress.total_bytes - here) / speed)} left"]
        coming = sorted(progress.under_way)
        what = ", ".join(coming[:2]) + (f" and {len(coming) - 2} more" if len(coming) > 2 else "")
        part = here / progress.total_bytes if progress.total_bytes else 1.0
        self._line.show(f"Fetching {what}" if what else "Checking", f": {', '.join(parts)}", min(part, 1.0))

    def say(self, sentence: str) -> None:
        """Print a sentence that stays."""
        self._line.print(sentence)

    def _speed(self, received: int) -> float:
        """Return bytes per second over the last seconds."""
        now = time.monotonic()
        self._received.append((now, received))
        while now - self._received[0][0] > _SPEED_OVER_S:
            self._received.popleft()
        since, before = self._received[0]
        return (received - before) / (now - since) if now > since else 0.0

    def __enter__(self) -> Self:
        self._line.__enter__()
        return self

    def __exit__(self, *reason: object) -> None:
        self._line.__exit__(*reason)


def _size(count: int) -> str:
    for unit, one in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= one:
            return f"{count / one:.2f} {unit}"
    return f"{count} B"


def _left(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 90
        else f"{seconds / 60:.0f} min"
        if seconds < 5400
        else f"{seconds / 3600:.1f} h"
    )
