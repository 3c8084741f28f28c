"""Scores of an evaluation from its single answers, all together and by tag, and the comparison of two. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from evaluation.errors import NotComparable
from evaluation.statistics import Interval, PairedDifference, mean, mean_interval, paired, wilson


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredRow:
    """The score of one row's answer."""

    id: str
    score: float
    has_passed: bool
    weight: float = 1.0
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The score of some rows with its interval, and the share that passed with its own."""

    rows: int
    score: float
    """Weighted mean."""
    low: float
    high: float
    method: str
    """How the interval of the score was computed: `wilson`, `bootstrap`, or `stderr` as an outside tool reports it."""
    passed: int
    pass_rate: float
    pass_low: float
    pass_high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """The scores of an evaluation."""

    overall: Score
    tags: Mapping[str, Score]

    def as_json(self) -> dict[str, Any]:
        """Return the scores as a JSON object."""
        return {"overall": asdict(self.overall), "tags": {tag: asdict(score) for tag, score in self.tags.items()}}


def scores_of(rows: Sequence[ScoredRow]) -> Scores:
    """Return the scores of *rows*, of which there is at least one."""
    tags = sorted({tag for row in rows for tag in row.tags})
    return Scores(overall=_score(rows), tags={tag: _score([row for row in rows if tag in row.tags]) for tag in tags})


def _score(rows: Sequence[ScoredRow]) -> Score:
    values, weights = [row.score for row in rows], [row.weight for row in rows]
    interval: Interval = mean_interval(values, weights)
    passed = sum(row.has_passed for row in rows)
    shares = wilson(passed, len(rows))
    return Score(
        rows=len(rows),
        score=mean(values, weights),
        low=interval.low,
        high=interval.high,
        method=interval.method,
        passed=passed,
        pass_rate=passed / len(rows),
        pass_low=shares.low,
        pass_high=shares.high,
    )


def compare_rows(first: Sequence[ScoredRow], second: Sequence[ScoredRow]) -> PairedDifference:
    """Return how much better *first* is than *second* on the same rows. Raises `NotComparable`."""
    others = {row.id: row for row in second}
    if {row.id for row in first} != others.keys():
        raise NotComparable("the two evaluations do not have the same rows")
    pairs = [(row, others[row.id]) for row in first]
    return paired(
        [one.score for one, _ in pairs],
        [other.score for _, other in pairs],
        [one.weight for one, _ in pairs],
        [(one.has_passed, other.has_passed) for one, other in pairs],
    )


def score_line(score: Score) -> str:
    """Return a score with its interval for people."""
    return f"{score.score:.3f} ({score.low:.3f} to {score.high:.3f}), {score.passed} of {score.rows} passed"
