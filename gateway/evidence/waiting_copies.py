"""Copies of a shadow step that wait for a quiet moment. Pure: few, not for long, the oldest first."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.evidence.answer_facts import AnswerFacts
from gateway.routing.routing import Evidence


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowCopy:
    """A request of stable's that was chosen to be copied once it is answered."""

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
    """That of the original."""
    original: AnswerFacts
    since: float
    """When the original's answer was whole; monotonic."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A copy that is not made, and in one word why."""

    waiting: WaitingCopy
    reason: str


class WaitingCopies:
    """At most *most* copies, none of them for longer than *longest_s*."""

    def __init__(self, most: int, longest_s: float) -> None:
        self._most = most
        self._longest_s = longest_s
        self._copies: list[WaitingCopy] = []
        """By age, the oldest first."""

    def __len__(self) -> int:
        return len(self._copies)

    @property
    def replicas(self) -> frozenset[str]:
        """The replicas that they wait for."""
        return frozenset(waiting.replica for waiting in self._copies)

    def add(self, waiting: WaitingCopy) -> None:
        """It waits, also one that was taken already."""
        insort(self._copies, waiting, key=lambda each: each.since)

    def sort_out(self, obstacle_to: Callable[[WaitingCopy], str], now: float) -> list[LeftOut]:
        """Ask *obstacle_to* about each, the oldest first: a word why it cannot be made now, or nothing if it is made.

        Those that are made wait no longer, nor do those that waited for too long or are too many, which are returned.
        """
        still = [LeftOut(waiting=each, reason=word) for each in self._copies if (word := obstacle_to(each))]
        too_many = len(still) - self._most
        is_left_out = [
            place < too_many or now - each.waiting.since > self._longest_s for place, each in enumerate(still)
        ]
        self._copies = [each.waiting for each, is_out in zip(still, is_left_out, strict=True) if not is_out]
        return [each for each, is_out in zip(still, is_left_out, strict=True) if is_out]
