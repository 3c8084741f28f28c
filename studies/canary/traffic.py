"""The requests of simulated callers and the answers of both revisions. Pure except for the given generator."""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import Final

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from gateway.rollouts.judge.bounds import Floats, Sums
from registry.rollouts.guardrail_names import Guardrail
from registry.rollouts.tally import BUCKET_GROWTH

Counts = NDArray[np.int64]

SCORES: Final[Floats] = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
"""Scores of one to five points."""
FOUR_POINTS: Final = (0.03, 0.07, 0.20, 0.27, 0.43)
"""Probabilities of the scores, with a mean of four points."""
HALF_A_POINT_LESS: Final = (0.08, 0.15, 0.25, 0.23, 0.29)
THREE_POINTS: Final = (0.15, 0.20, 0.30, 0.20, 0.15)
TURN: Final = 600
"""The second from which `later` applies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """The amount of traffic, and for how long it is watched."""

    per_second: int = 20
    weight: float = 0.05
    """The canary's share of the traffic."""
    seconds: int = 3600

    def canary_counts(self, rng: Generator, rollouts: int, seconds: int) -> Counts:
        """Return the requests of the canary, (rollout, second); stable has the others of `per_second`."""
        return rng.binomial(self.per_second, self.weight, (rollouts, seconds))


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A fault in which a share of the requests end."""

    guardrail: Guardrail
    stable: float
    canary: float
    later: float = 1.0
    """Factor on both sides from `TURN` on."""

    def canary_side(self, rng: Generator, requests: Counts, start: int) -> Sums:
        """Return the sums that each second adds, given its requests (rollout, second); the first is *start*."""
        return self._drawn(rng, requests, start, self.canary)

    def stable_side(self, rng: Generator, requests: Counts, start: int) -> Sums:
        """See `canary_side`."""
        return self._drawn(rng, requests, start, self.stable)

    def _drawn(self, rng: Generator, requests: Counts, start: int, share: float) -> Sums:
        grown = np.where(start + np.arange(requests.shape[1]) >= TURN, self.later, 1.0)
        bad = rng.binomial(requests, share * grown).astype(np.float64)
        return Sums(count=requests.astype(np.float64), total=bad, squares=bad)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Scores from one to five points for a share of the answers; the sums are of 1 minus the score."""

    stable: tuple[float, ...] = FOUR_POINTS
    canary: tuple[float, ...] = FOUR_POINTS
    later: tuple[float, ...] | None = None
    """The scores of both sides from `TURN` on."""
    rated: float = 0.1
    guardrail: Guardrail = Guardrail.FEEDBACK

    def canary_side(self, rng: Generator, requests: Counts, start: int) -> Sums:
        """See `Share.canary_side`."""
        return self._drawn(rng, requests, start, self.canary)

    def stable_side(self, rng: Generator, requests: Counts, start: int) -> Sums:
        """See `canary_side`."""
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
    """Lognormal durations."""

    guardrail: Guardrail
    spread: float
    """Standard deviation of the logarithm: with 0.4 the 95th percentile is about twice the median."""
    longer: float = 0.0
    """The part by which the canary's durations are longer."""
    later: float = 1.0
    """Factor on the durations of both sides from `TURN` on."""

    @property
    def spread_buckets(self) -> float:
        """The standard deviation in buckets."""
        return self.spread / log(BUCKET_GROWTH)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """The settings of a simulation."""

    load: Load
    rollouts: int
    rng: Generator
