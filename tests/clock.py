"""A clock that a test moves."""

from __future__ import annotations


class Clock:
    """Time that passes only when a test says so."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at

    def advance(self, seconds: float) -> None:
        self.at += seconds
