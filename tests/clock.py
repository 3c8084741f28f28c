"""The clock of a registry whose time a test controls."""

from __future__ import annotations


class Clock:
    """A clock that stands still until a test advances it, and that can be set wrong."""

    def __init__(self) -> None:
        self.at = 1000.0
        self._off_by = 0.0

    def __call__(self) -> float:
        """Return the time on the wall."""
        return self.at + self._off_by

    def steady(self) -> float:
        """Return the time that only passes."""
        return self.at

    def advance(self, seconds: float) -> None:
        """Let *seconds* pass."""
        self.at += seconds

    def jump(self, seconds: float) -> None:
        """Set the clock on the wall forward, or back, while no time passes."""
        self._off_by += seconds
