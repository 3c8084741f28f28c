"""Intervals of scores, and paired comparisons. Pure; every random number comes from a fixed seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np

CONFIDENCE: Final = 0.95
SEED: Final = 20_261_129
RESAMPLES: Final = 10_000
_CELLS: Final = 4_000_000
"""Numbers of a block of resamples, which bounds the memory."""
_EXACT_SIGNS: Final = 14
"""Differences up to which every assignment of signs is tried: 2^14 of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A two-sided interval of 95 % confidence."""

    low: float
    high: float
    method: str


def wilson(successes: int, trials: int) -> Interval:
    """Return the score interval of a proportion (Wilson 1927, doi:10.1080/01621459.1927.10502953)."""
    z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
    share = successes / trials
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return Interval(low=max(0.0, centre - half), high=min(1.0, centre + half), method="wilson")


def mean(values: Sequence[float], weights: Sequence[float]) -> float:
    """Return the weighted mean."""
    return math.fsum(value * weight for value, weight in zip(values, weights, strict=True)) / math.fsum(weights)


def bootstrap(values: Sequence[float], weights: Sequence[float]) -> Interval:
    """Return the percentile interval of the weighted mean over resampled rows (Efron and Tibshirani 1993, ch. 13)."""
    low, high = _quantiles(values, weights, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    return Interval(low=low, high=high, method="bootstrap")


def mean_interval(values: Sequence[float], weights: Sequence[float]) -> Interval:
    """Return Wilson's interval for equally weighted rows that are right or wrong, else the bootstrap's."""
    if set(values) <= {0.0, 1.0} and len(set(weights)) == 1:
        return wilson(sum(value == 1.0 for value in values), len(values))
    return bootstrap(values, weights)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedDifference:
    """How much higher the first of two evaluations of the same rows scores."""

    difference: float
    """Weighted mean of the differences row by row."""
    interval: Interval
    lower_bound: float
    """The one-sided bound: the difference is at least this with 95 % confidence."""
    p_scores: float
    """Two-sided p of the scores, by sign flips."""
    p_passed: float
    """Two-sided p of passed and failed, by McNemar's exact test."""
    only_first: int
    """Rows that only the first passed."""
    only_second: int


def paired(
    first: Sequence[float], second: Sequence[float], weights: Sequence[float], passed: Sequence[tuple[bool, bool]]
) -> PairedDifference:
    """Return the difference of scores of the same rows; *passed* has whether the first and the second passed each."""
    differences = [one - other for one, other in zip(first, second, strict=True)]
    low, lower, high = _quantiles(differences, weights, ((1 - CONFIDENCE) / 2, 1 - CONFIDENCE, (1 + CONFIDENCE) / 2))
    only_first = sum(one and not other for one, other in passed)
    only_second = sum(other and not one for one, other in passed)
    return PairedDifference(
        difference=mean(differences, weights),
        interval=Interval(low=low, high=high, method="bootstrap"),
        lower_bound=lower,
        p_scores=sign_flips(differences, weights),
        p_passed=mcnemar(only_first, only_second),
        only_first=only_first,
        only_second=only_second,
    )


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the two-sided exact p of McNemar's test: a binomial test of the discordant pairs (Fay 2010, exact2x2)."""
    discordant = only_first + only_second
    if discordant == 0:
        return 1.0
    fewer = min(only_first, only_second)
    tail = sum(math.comb(discordant, count) for count in range(fewer + 1))
    return min(1.0, float(2 * tail / 2**discordant))


def sign_flips(differences: Sequence[float], weights: Sequence[float]) -> float:
    """Return the two-sided p of a paired permutation test of the mean (Good 2005, section 3.2).

    Without a difference between the two, each row's difference is as likely to have the other sign. Up to 14 rows that
    differ every assignment of signs is tried; beyond, 10,000 drawn ones with the observed one among them.
    """
    given = [difference * weight for difference, weight in zip(differences, weights, strict=True) if difference]
    if not given:
        return 1.0
    values = np.asarray(given, dtype=np.float64)
    seen = abs(float(values.sum()))
    # Sums of the same numbers in another order differ in their last bits.
    least = seen * (1 - 1e-9)
    if len(given) <= _EXACT_SIGNS:
        numbers = np.arange(2 ** len(given))
        signs = 1 - 2 * ((numbers[:, None] >> np.arange(len(given))) & 1)
        return float((np.abs(signs @ values) >= least).mean())
    random = np.random.default_rng(SEED)
    as_far = 0
    for count in _blocks(len(given)):
        signs = 1 - 2 * random.integers(0, 2, size=(count, len(given)))
        as_far += int((np.abs(signs @ values) >= least).sum())
    return (as_far + 1) / (RESAMPLES + 1)


def _quantiles(values: Sequence[float], weights: Sequence[float], at: Sequence[float]) -> list[float]:
    given, weighed = np.asarray(values, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    if bool((given == given[0]).all()):
        return [float(given[0])] * len(at)
    random = np.random.default_rng(SEED)
    means = np.empty(RESAMPLES)
    done = 0
    for count in _blocks(len(given)):
        chosen = random.integers(0, len(given), size=(count, len(given)))
        weights_of = weighed[chosen]
        means[done : done + count] = (given[chosen] * weights_of).sum(axis=1) / weights_of.sum(axis=1)
        done += count
    return [float(value) for value in np.quantile(means, at)]


def _blocks(rows: int) -> list[int]:
    size = max(1, min(RESAMPLES, _CELLS // rows))
    full, rest = divmod(RESAMPLES, size)
    return [size] * full + ([rest] if rest else [])
