"""What gateways count of answered requests while a rollout is watched. Pure: values that add up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from math import floor, log
from typing import Any, Final

BUCKET_GROWTH: Final = 1.02
"""Durations are counted in buckets whose bounds grow by this factor, so a quantile is known within two percent."""
SHORTEST_S: Final = 1e-4
"""Shorter durations count as this long."""


class Side(StrEnum):
    """Which revision of a rollout answered."""

    STABLE = "stable"
    CANARY = "canary"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """Requests that are alike for the judge: one rollout, one step, one side, one replica."""

    rollout_id: str
    step: int
    """Index into the plan's steps; their number itself stands for the watch after the promotion."""
    side: Side
    replica: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Sums over the requests of a cell. Errors that are the client's own are in none of them."""

    requests: int = 0
    """Requests that were answered, or failed through no fault of the client."""
    errors: Mapping[str, int] = field(default_factory=dict)
    """Kind of error -> requests that ended in it."""
    answers: int = 0
    """Choices of requests that were answered whole: what the next counts are shares of."""
    length_finishes: int = 0
    empty_answers: int = 0
    json_asked: int = 0
    """Answers for which `response_format` asked for JSON."""
    json_invalid: int = 0
    tool_calls: int = 0
    tool_calls_invalid: int = 0
    """Tool calls whose arguments are not JSON."""
    output_tokens: int = 0
    ttft: Mapping[int, int] = field(default_factory=dict)
    """`bucket_of` the seconds to the first token -> requests."""
    tpot: Mapping[int, int] = field(default_factory=dict)
    """`bucket_of` the seconds per output token after the first -> requests."""
    feedbacks: int = 0
    feedback_sum: float = 0.0
    """Of scores from 0 to 1."""
    feedback_square_sum: float = 0.0

    def plus(self, other: Tally) -> Tally:
        """Both together."""
        return Tally(**{each.name: _sum(getattr(self, each.name), getattr(other, each.name)) for each in fields(self)})


def total(tallies: Iterable[Tally]) -> Tally:
    """All of them together."""
    result = Tally()
    for tally in tallies:
        result = result.plus(tally)
    return result


def bucket_of(seconds: float) -> int:
    """The bucket that a duration is counted in; `seconds_of` is its upper bound."""
    return floor(log(max(seconds, SHORTEST_S)) / log(BUCKET_GROWTH))


def seconds_of(bucket: int) -> float:
    """The upper bound of a bucket."""
    return float(BUCKET_GROWTH ** (bucket + 1))


def _sum(one: Any, other: Any) -> Any:
    return dict(Counter(one) + Counter(other)) if isinstance(one, Mapping) else one + other
