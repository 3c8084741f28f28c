"""The clock of a registry whose time a test controls."""

from __future__ import annotations


class Clock:
    """A clock that stands still until a test advances it."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at

    def advance(self, seconds: float) -> None:
        self.at += seconds
