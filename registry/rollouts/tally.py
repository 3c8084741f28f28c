"""Counts of answered requests while a rollout is watched. Pure values that add up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from math import floor, log
from typing import Any, Final

BUCKET_GROWTH: Final = 1.02
"""Durations are counted in buckets whose bounds grow by this factor, so a quantile is known within two percent."""
SHORTEST_S: Final = 1e-4
"""Shorter durations count as this long."""


class Side(StrEnum):
    """Which revision of a rollout answered, and whom."""

    STABLE = "stable"
    CANARY = "canary"
    SHADOW_CANARY = "shadow_canary"  # the canary, for a copy of a request that stable answered; no client saw it
    SHADOW_STABLE = "shadow_stable"  # stable, the originals of those copies, counted again for the comparison


_SHADOWED: Final[Mapping[Side, Side]] = {Side.SHADOW_CANARY: Side.CANARY, Side.SHADOW_STABLE: Side.STABLE}


class ErrorKind(StrEnum):
    """How a request failed through no fault of its client."""

    UNAVAILABLE = "unavailable"  # no replica answered in time; the cell's replica is the last that was tried, or none
    ENGINE_ERROR = "engine_error"  # the engine reported a failure (5xx, 404, or an error in its stream)
    BROKEN = "broken"  # the engine's connection ended before its answer did
    MALFORMED = "malformed"  # not a valid answer: no JSON, no choices, or a choice that never finishes
    RETRIED = "retried"  # this replica failed before its first byte and the request was sent again: no client saw it
    OVERLOADED = "overloaded"  # 429: the engine's queue was full, whatever the revision


NO_FAILURES: Final = frozenset({ErrorKind.RETRIED, ErrorKind.OVERLOADED})
"""Kinds that no client saw or that are not the revision's fault; they do not count as `requests`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A group of requests that are alike for the judge: one rollout, step, side and replica."""

    rollout_id: str
    step: int
    """Index into the plan's steps; the number of steps stands for the watch after the promotion."""
    side: Side
    replica: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Sums over the requests of a cell, without errors that are the client's own."""

    requests: int = 0
    """Requests that were answered, or failed (`failures`) through no fault of the client."""
    errors: Mapping[str, int] = field(default_factory=dict)
    """`ErrorKind` -> how often. `failures` sums those that count against a revision."""
    answers: int = 0
    """Choices of requests that were answered whole; the next counts are shares of them."""
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
    """`bucket_of` the seconds from a request's arrival to its first token -> requests. Streams only."""
    tpot: Mapping[int, int] = field(default_factory=dict)
    """`bucket_of` the seconds per output token after the first -> requests; whole answers: per output token."""
    ttft_cached: Mapping[int, int] = field(default_factory=dict)
    """The part of `ttft` of requests that found at least half of their prompt in the engine's cache."""
    tpot_cached: Mapping[int, int] = field(default_factory=dict)
    """The part of `tpot` of such requests."""
    feedbacks: int = 0
    feedback_sum: float = 0.0
    """Sum of scores from 0 to 1."""
    feedback_square_sum: float = 0.0
    comparisons: int = 0
    """Shadow canary only: pairs of answers that the judge model decided."""
    win_sum: float = 0.0
    """1 for each that the canary won, 0.5 for a tie; each pair is the mean over both orders."""
    win_square_sum: float = 0.0
    copies_left_out: Mapping[str, int] = field(default_factory=dict)
    """Shadow canary only: reason -> copies that were not made or not completed; no other field counts them."""

    @property
    def failures(self) -> int:
        """Requests that ended in an error that its client saw and that speaks against the revision."""
        return sum(count for kind, count in self.errors.items() if kind not in NO_FAILURES)

    def plus(self, other: Tally) -> Tally:
        """Return the sum of both tallies."""
        return total((self, other))


def total(tallies: Iterable[Tally]) -> Tally:
    """Return the sum of *tallies*."""
    every = [Tally(), *tallies]
    return Tally(**{each.name: _sum([getattr(tally, each.name) for tally in every]) for each in fields(Tally)})


def comparable(cells: Mapping[Cell, Tally]) -> dict[Cell, Tally]:
    """Return *cells* with shadow sides in place of the sides that they stand for, in the steps that have any.

    In those steps the clients' own requests drop out: stable answered them all, and only the copied ones have a
    counterpart on the canary.
    """
    shadowed = {cell.step for cell in cells if cell.side in _SHADOWED}
    result = {}
    for cell, tally in cells.items():
        if cell.step not in shadowed:
            result[cell] = tally
        elif cell.side in _SHADOWED:
            result[replace(cell, side=_SHADOWED[cell.side])] = tally
    return result


def bucket_of(seconds: float) -> int:
    """Return the bucket that counts a duration; `seconds_of` is its upper bound."""
    # Bucket n has the durations from BUCKET_GROWTH^n up to BUCKET_GROWTH^(n + 1) seconds; n is negative below a second.
    return floor(log(max(seconds, SHORTEST_S)) / log(BUCKET_GROWTH))


def seconds_of(bucket: int) -> float:
    """Return the upper bound of a bucket in seconds."""
    return float(BUCKET_GROWTH ** (bucket + 1))


def quantile(buckets: Mapping[int, int], share: float) -> float | None:
    """Return the duration in seconds that *share* of the counted ones do not exceed, to within a bucket."""
    needed = share * sum(buckets.values())
    passed = 0
    for bucket in sorted(buckets):
        passed += buckets[bucket]
        if passed >= needed:
            return seconds_of(bucket)
    return None


def _sum(values: Sequence[Any]) -> Any:
    if not isinstance(values[0], Mapping):
        return sum(values)
    counts: Counter[Any] = Counter()
    for value in values:
        counts.update(value)
    return dict(counts)
