"""The outcome of a fault from the results of every request. Pure but for reading the log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SLOW: Final = 3.0
"""A request is slow when it took so many times as long as nearly all did before the fault."""
SLOW_AT_LEAST_S: Final = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request as its client saw it, with times of `time.monotonic`."""

    began: float
    first_byte: float | None
    ended: float
    outcome: str
    status: int

    @property
    def seconds(self) -> float:
        """Return the seconds from the request's beginning to its end."""
        return self.ended - self.began

    @property
    def is_ok(self) -> bool:
        """Whether the request was answered completely."""
        return self.outcome == "ok"

    @property
    def is_unanswered(self) -> bool:
        """Whether the request failed without a byte of an answer: refused, cut off, timed out, or not a 200."""
        return not self.is_ok and (self.first_byte is None or self.status != 200)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A drill in figures."""

    sent: int
    unanswered: int
    why: str
    """Kinds of the unanswered requests, with their numbers."""
    error_events: int
    """Streams that said that they failed, after their first byte."""
    broken: int
    """Answers that ended in their middle, or stood still, without a word."""
    worst_s: float
    """Longest time that an answered request took."""
    normal_after_s: float
    """From the fault to the end of the last request that failed or was slow; 0 when none was."""


def read_log(path: Path) -> list[Request]:
    """Return the requests that the load generator wrote down."""
    return [_request(*line.split()) for line in path.read_text().splitlines()]


def _request(began: str, first_byte: str, ended: str, outcome: str, status: str) -> Request:
    return Request(
        began=float(began),
        first_byte=float(first_byte) or None,
        ended=float(ended),
        outcome=outcome,
        status=int(status),
    )


def outcome_of(kinds: Iterable[Sequence[Request]], fault_at: float) -> Outcome:
    """Return the outcome of a drill; each of *kinds* has requests that take alike, with a bound of its own for slow."""
    groups = [list(kind) for kind in kinds]
    requests = [request for group in groups for request in group]
    unanswered = [request for request in requests if request.is_unanswered]
    why = Counter(one.outcome if one.outcome != "status" else str(one.status) for one in unanswered)
    later = [request for request in requests if not request.is_ok and not request.is_unanswered]
    error_events = sum(request.outcome == "error_event" for request in later)
    return Outcome(
        sent=len(requests),
        unanswered=len(unanswered),
        why=", ".join(f"{count} {kind}" for kind, count in why.most_common()),
        error_events=error_events,
        broken=len(later) - error_events,
        worst_s=max((request.seconds for request in requests if request.is_ok), default=0.0),
        normal_after_s=max((_normal_after_s(group, fault_at) for group in groups), default=0.0),
    )


def _normal_after_s(requests: Sequence[Request], fault_at: float) -> float:
    slow_s = slow_from_s([request for request in requests if request.is_ok and request.ended < fault_at])
    after = [request for request in requests if request.ended >= fault_at]
    return max((one.ended - fault_at for one in after if not one.is_ok or one.seconds > slow_s), default=0.0)


def slow_from_s(before: Sequence[Request]) -> float:
    """Return the seconds from which on a request is slow."""
    took = sorted(request.seconds for request in before)
    usual = took[round(0.99 * (len(took) - 1))] if took else 0.0
    return max(SLOW * usual, SLOW_AT_LEAST_S)
