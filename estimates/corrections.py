"""Corrections of estimates by what finished jobs took: the same kind of job, on the same machine, of a like size."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

COUNTED: Final = 5
"""Jobs that count, the latest ones."""
LARGEST_RATIO: Final = 2.0
"""A job of more than so many times the estimate, or less than its inverse, does not correct it.

The part that an estimate lacks is in part the same for every job, such as libraries, and in part grows with it.
"""
BOUNDS: Final = (0.5, 2.0)
"""Corrections of memory stay between these: what is beyond them is a fault of the measurement."""
SPEED_BOUNDS: Final = (0.02, 50.0)
"""Corrections of time: a machine may be busy, or much faster than its data sheet lets expect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Memory and time that a finished job took, beside what was estimated for it without a correction."""

    estimated_bytes: int
    peak_bytes: int
    estimated_s: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """Factors on an estimate, and the number of jobs that they follow from."""

    memory: float = 1.0
    time: float = 1.0
    jobs: int = 0
    """Jobs of a like peak."""
    timed_jobs: int = 0
    """Jobs of a like time."""


NO_CORRECTION: Final = Correction()


def correction_of(measured: Sequence[Measurement], estimated_bytes: int, estimated_s: float) -> Correction:
    """Return the medians of measured over estimated of jobs of a like size; *measured* has the latest first."""
    like = [each for each in measured if _is_like(each.estimated_bytes, estimated_bytes)][:COUNTED]
    timed = [each for each in measured if _is_like(each.estimated_s, estimated_s)][:COUNTED]
    return Correction(
        memory=_bounded((each.peak_bytes / each.estimated_bytes for each in like), BOUNDS),
        time=_bounded((each.seconds / each.estimated_s for each in timed), SPEED_BOUNDS),
        jobs=len(like),
        timed_jobs=len(timed),
    )


def _is_like(one: float, other: float) -> bool:
    return one > 0 and other > 0 and 1 / LARGEST_RATIO <= one / other <= LARGEST_RATIO


def _bounded(ratios: Iterable[float], bounds: tuple[float, float]) -> float:
    found = [*ratios]
    return min(bounds[1], max(bounds[0], median(found))) if found else 1.0
