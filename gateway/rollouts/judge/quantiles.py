"""Always-valid bounds on how much slower the canary's slow answers are than stable's. Pure; only numpy.

Durations come as histograms over the buckets of `registry.rollouts.tally`. The bounds of buckets grow by a fixed
factor, so a duration that is a tenth longer lies a fixed number of buckets higher; inside a bucket the requests are
assumed to be spread evenly. "Is the canary's 95th percentile more than 1 + m times stable's?" becomes a question of
shares: if 5 % of stable's answers take longer than x, do more of the canary's take longer than (1 + m) x?

x is not known. For every x two processes are averaged: the comparison of the shares at x, and the evidence that x is
not stable's percentile (`bounds.against`; a quantile is confined in this way in Howard, Ramdas 2022, "Sequential
estimation of quantiles with applications to A/B testing and best-arm identification"). At the true x the average is an
always-valid process whatever the distributions are, so its minimum over all x is one too.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import Final

import numpy as np

from gateway.rollouts.judge.bounds import Bets, Floats, Sums, against, log_mean_exp
from registry.rollouts.tally import BUCKET_GROWTH

SLOW_SHARE: Final = 0.05
"""The share of stable's answers that are slower than its 95th percentile."""
PLACE_PART: Final = 0.2
"""The part of the average that locates stable's percentile; the rest compares the sides there."""
ENOUGH: Final = 20.0
"""Log evidence is capped here, so that few x have to be examined; each part of alpha is above exp(-20)."""
NARROWEST: Final = 4.0
WIDEST: Final = 128.0
"""Steps, in buckets, of the outward search for a bound."""
FINEST: Final = 0.25
"""Precision of a bound in buckets: a quarter of one is half a percent."""


def buckets_of(margin: float) -> float:
    """Return how many buckets higher a duration lies that is longer by the part *margin*."""
    return log(1.0 + margin) / log(BUCKET_GROWTH)


def margin_of(buckets: float) -> float:
    """Return by what part a duration is longer that lies *buckets* higher."""
    return float(BUCKET_GROWTH**buckets - 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowAnswers:
    """Both sides at every x: how many answers took longer than the lower bound of bucket x, (..., x, stratum).

    The first x is below every duration, the last one above.
    """

    canary: Floats
    stable: Floats
    """Stable's counts at the places of `x` only."""
    x: Floats
    """(..., place): the x that may be stable's percentile; at all others the evidence is above `ENOUGH` anyway."""
    place: Floats
    """(..., place): log of `PLACE_PART` of the evidence that x is not stable's percentile."""
    bets: Bets
    """Bets that the canary has more slow answers."""
    opposite: Bets
    """Bets that the canary has fewer."""

    @classmethod
    def of(cls, canary: Floats, stable: Floats) -> SlowAnswers:
        """Build from histograms, arrays (..., bucket, stratum)."""
        return cls.at(longer(canary), longer(stable), places(longer(stable).sum(axis=-1)))

    @classmethod
    def at(cls, ours: Floats, theirs: Floats, x: Floats) -> SlowAnswers:
        """Build from the results of `longer` for both sides, with stable's percentile assumed to be one of *x*."""
        there = _longer_than(theirs, x)
        slow = there.sum(axis=-1)
        seen = Sums(
            count=np.broadcast_to(theirs[..., 0, :].sum(axis=-1)[..., None], slow.shape), total=slow, squares=slow
        )
        either = np.logaddexp(against(SLOW_SHARE, seen, more=True), against(SLOW_SHARE, seen, more=False))
        # Both directions share the part: the percentile may lie above x or below.
        place = either + log(PLACE_PART / 2)
        # An x goes only where every experiment excludes it, as the arrays are rectangular.
        is_open = np.any(place < ENOUGH, axis=tuple(range(place.ndim - 1)))
        return cls(
            canary=ours,
            stable=there[..., is_open, :],
            x=x[..., is_open],
            place=place[..., is_open],
            bets=Bets.of(ours[..., :1, :], theirs[..., :1, :]),
            opposite=Bets.of(theirs[..., :1, :], ours[..., :1, :]),
        )

    def log_evidence(self, buckets: float, *, slower: bool = True) -> Floats:
        """Return log evidence that the canary's percentile is more (not *slower*: less) than *buckets* higher."""
        last = self.canary.shape[-2] - 1
        above = _longer_than(self.canary, np.where(self.x == last, last, self.x + buckets))
        gains = self.bets.gains(above, self.stable) if slower else self.opposite.gains(self.stable, above)
        both = np.logaddexp(self.place, log_mean_exp(gains) + log(1.0 - PLACE_PART))
        return np.asarray(np.min(both, axis=-1, initial=ENOUGH))

    def bound(self, alpha: float, *, lower: bool = True) -> float:
        """Return the least (else the largest) number of buckets that the canary's percentile can be above stable's.

        For one experiment only; wrong with probability at most *alpha* over all looks; infinite if nothing is known.
        The evidence is monotonic in the buckets, so the search goes outwards from the observed value until the evidence
        suffices, and then bisects.
        """
        sign = 1.0 if lower else -1.0
        fails = float(empirical(self.canary.sum(axis=-1)) - self.x[-1])
        width = NARROWEST
        while float(self.log_evidence(fails - sign * width, slower=lower)) < -log(alpha):
            fails, width = fails - sign * width, 2 * width
            if width > WIDEST:
                return -sign * float("inf")
        holds = fails - sign * width
        while abs(fails - holds) > FINEST:
            middle = (holds + fails) / 2
            if float(self.log_evidence(middle, slower=lower)) >= -log(alpha):
                holds = middle
            else:
                fails = middle
        # At this end the evidence suffices; the true bound is at most `FINEST` away towards the other.
        return holds


def percentile(histogram: Floats) -> float:
    """Return the bucket position above which `SLOW_SHARE` of a histogram (bucket,) lies."""
    return float(empirical(longer(histogram[:, None])[:, 0]))


def longer(histogram: Floats) -> Floats:
    """Return how many lie in each bucket or above: (..., bucket, stratum) -> (..., bucket + 1, stratum), last 0."""
    above = np.cumsum(histogram[..., ::-1, :], axis=-2)[..., ::-1, :]
    return np.concatenate([above, np.zeros_like(above[..., :1, :])], axis=-2)


def _longer_than(above: Floats, x: Floats) -> Floats:
    """Return how many of (..., bucket, stratum) lie above each of (..., place), as (..., place, stratum)."""
    last = above.shape[-2] - 1
    floor = np.floor(x)
    part = (x - floor)[..., None]
    whole = np.minimum(np.maximum(floor, 0), last).astype(np.intp)
    next_one = np.minimum(np.maximum(floor + 1, 0), last).astype(np.intp)
    if x.ndim == 1:
        low, high = above[whole], above[next_one]
    else:
        low = np.take_along_axis(above, whole[..., None], axis=-2)
        high = np.take_along_axis(above, next_one[..., None], axis=-2)
    return np.asarray((1.0 - part) * low + part * high)


def places(above: Floats) -> Floats:
    """Return the candidates for x, (..., place): the bounds of all buckets, and the percentile of the counts.

    With very many counts no bound of a bucket remains possible, and only the percentile of the counts is near x.
    """
    bounds = np.broadcast_to(np.arange(above.shape[-1], dtype=np.float64), above.shape)
    return np.concatenate([bounds, empirical(above)[..., None]], axis=-1)


def empirical(above: Floats) -> Floats:
    """Return the position above which `SLOW_SHARE` of the counts lie."""
    wanted = SLOW_SHARE * above[..., :1]
    last = above.shape[-1] - 1
    below = np.clip(np.sum(above > wanted, axis=-1, keepdims=True) - 1, 0, max(last - 1, 0))
    high, low = np.take_along_axis(above, below, axis=-1), np.take_along_axis(above, below + 1, axis=-1)
    part = np.where(high > low, (high - wanted) / np.where(high > low, high - low, 1.0), 0.0)
    return np.asarray((below + np.clip(part, 0.0, 1.0))[..., 0])
