"""Copies of a shadow step that wait until their replica is quiet. Pure: few, not for long, the oldest first."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.evidence.answer_facts import AnswerFacts
from gateway.routing.routing import Evidence


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowCopy:
    """A request to stable that was chosen to be copied once it is answered."""

    evidence: Evidence
    canary: str
    judge: str | None
    path: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingCopy:
    """A copy whose original is answered."""

    copy: ShadowCopy
    replica: str
    """The replica that answered the original."""
    original: AnswerFacts
    since: float
    """When the original's answer was whole; monotonic."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A copy that is not made, with the reason in one word."""

    waiting: WaitingCopy
    reason: str


class WaitingCopies:
    """Holds at most *most* copies, none for longer than *longest_s*."""

    def __init__(self, most: int, longest_s: float) -> None:
        self._most = most
        self._longest_s = longest_s
        self._copies: list[WaitingCopy] = []
        """Ordered by age, the oldest first."""

    def __len__(self) -> int:
        return len(self._copies)

    @property
    def replicas(self) -> frozenset[str]:
        """The replicas that copies wait for."""
        return frozenset(waiting.replica for waiting in self._copies)

    def add(self, waiting: WaitingCopy) -> None:
        """Add a copy, or put one back that was begun and found its replica busy."""
        insort(self._copies, waiting, key=lambda each: each.since)

    def sort_out(self, obstacle_to: Callable[[WaitingCopy], str], now: float) -> list[LeftOut]:
        """Try each copy, the oldest first, and return those that are left out for good.

        *obstacle_to* returns a word why a copy cannot be made now, or an empty string if it has begun. Left out are
        copies that waited for too long, and the oldest where there are too many.
        """
        still = [LeftOut(waiting=each, reason=word) for each in self._copies if (word := obstacle_to(each))]
        too_many = len(still) - self._most
        is_left_out = [
            place < too_many or now - each.waiting.since > self._longest_s for place, each in enumerate(still)
        ]
        self._copies = [each.waiting for each, is_out in zip(still, is_left_out, strict=True) if not is_out]
        return [each for each, is_out in zip(still, is_left_out, strict=True) if is_out]
