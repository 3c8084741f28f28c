"""What simulated callers send and what the two revisions answer. Pure but for the generator that is handed in."""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import Final

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from gateway.rollouts.judge.bounds import Floats, Sums
from registry.rollouts.guardrails import Guardrail
from registry.rollouts.tally import BUCKET_GROWTH

Counts = NDArray[np.int64]

SCORES: Final[Floats] = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
"""One to five points."""
FOUR_POINTS: Final = (0.03, 0.07, 0.20, 0.27, 0.43)
"""Parts of the scores, their mean being four points."""
HALF_A_POINT_LESS: Final = (0.08, 0.15, 0.25, 0.23, 0.29)
THREE_POINTS: Final = (0.15, 0.20, 0.30, 0.20, 0.15)
TURN: Final = 600
"""The second from which on `later` counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How much traffic there is, and for how long it is watched."""

    per_second: int = 20
    weight: float = 0.05
    """The canary's part of it."""
    seconds: int = 3600

    def canary_counts(self, rng: Generator, rollouts: int, seconds: int) -> Counts:
        """Requests of the canary, (rollout, second); the other ones of `per_second` are stable's."""
        return rng.binomial(self.per_second, self.weight, (rollouts, seconds))


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Something bad that a part of the requests end in."""

    guardrail: Guardrail
    stable: float
    canary: float
    later: float = 1.0
    """By what both are multiplied from `TURN` on."""

    def canary_side(self, rng: Generator, requests: Counts, start: int) -> Sums:
        """What each second adds, of so many requests (rollout, second), the first second being *start*."""
        return self._drawn(rng, requests, start, self.canary)

    def stable_side(self, rng: Generator, requests: Counts, start: int) -> Sums:
        """As `canary_side`."""
        return self._drawn(rng, requests, start, self.stable)

    def _drawn(self, rng: Generator, requests: Counts, start: int, share: float) -> Sums:
        grown = np.where(start + np.arange(requests.shape[1]) >= TURN, self.later, 1.0)
        bad = rng.binomial(requests, share * grown).astype(np.float64)
        return Sums(count=requests.astype(np.float64), total=bad, squares=bad)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Scores from one to five points, given for a part of the answers. What is summed is what the score lacks to 1."""

    stable: tuple[float, ...] = FOUR_POINTS
    canary: tuple[float, ...] = FOUR_POINTS
    later: tuple[float, ...] | None = None
    """What both turn to at `TURN`."""
    rated: float = 0.1
    guardrail: Guardrail = Guardrail.FEEDBACK

    def canary_side(self, rng: Generator, requests: Counts, start: int) -> Sums:
        """What each second adds, as `Share.canary_side`."""
        return self._drawn(rng, requests, start, self.canary)

    def stable_side(self, rng: Generator, requests: Counts, start: int) -> Sums:
        """As `canary_side`."""
        return self._drawn(rng, requests, start, self.stable)

    def _drawn(self, rng: Generator, requests: Counts, start: int, parts: tuple[float, ...]) -> Sums:
        before = max(0, min(TURN - start, requests.shape[1])) if self.later else requests.shape[1]
        rated = rng.binomial(requests, self.rated)
        scores = np.concatenate(
            [rng.multinomial(rated[:, :before], parts), rng.multinomial(rated[:, before:], self.later or parts)], axis=1
        )
        lost = 1.0 - SCORES
        return Sums(count=rated.astype(np.float64), total=scores @ lost, squares=scores @ lost**2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Durations, lognormal."""

    guardrail: Guardrail
    spread: float
    """Standard deviation of the logarithm: with 0.4 the 95th percentile is about twice the median."""
    longer: float = 0.0
    """By what part the canary's are longer."""
    later: float = 1.0
    """By what those of both are multiplied from `TURN` on."""

    @property
    def spread_buckets(self) -> float:
        """The spread in buckets."""
        return self.spread / log(BUCKET_GROWTH)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a simulation is run with."""

    load: Load
    rollouts: int
    rng: Generator
