"""Always-valid bounds on how much slower the canary's slow answers are than stable's. Pure; only numpy.

Durations come as histograms over the buckets of `registry.observation`. Their bounds grow by a fixed factor, so what is
a tenth longer lies a fixed number of buckets higher; inside a bucket the requests are taken as spread evenly. "Is the
canary's 95th percentile more than 1 + m times stable's?" becomes a question of shares: of the duration x that 5 % of
stable's answers exceed, do more of the canary's exceed (1 + m) x?

x is not known. For every x two processes are averaged: the comparison of the shares at x, and the evidence that x is
not stable's percentile (`bounds.against`; a quantile is confined in this way in Howard, Ramdas 2022, "Sequential
estimation of quantiles with applications to A/B testing and best-arm identification"). At the true x the average is an
always-valid process whatever the distributions look like, so what it is at least, over all x, is one too.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import floor, log
from typing import Final

import numpy as np

from gateway.canary.bounds import Floats, Sums, against, shares
from registry.observation import BUCKET_GROWTH

SLOW_SHARE: Final = 0.05
"""The share of stable's answers that are slower than its 95th percentile."""
PLACE_PART: Final = 0.2
"""The part of the average that says where stable's percentile lies; the rest compares the sides there."""
ENOUGH: Final = 20.0
"""Log evidence is told up to here only, so that few x have to be looked at; alpha is never below exp of minus this."""
WIDEST: Final = 128.0
"""Buckets within which the difference of the percentiles is looked for: a factor of 12 up or down."""
HALVINGS: Final = 11


def buckets_of(margin: float) -> float:
    """How many buckets higher a duration lies that is longer by the part *margin*."""
    return log(1.0 + margin) / log(BUCKET_GROWTH)


def margin_of(buckets: float) -> float:
    """By what part a duration is longer that lies that many buckets higher."""
    return float(BUCKET_GROWTH**buckets - 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowAnswers:
    """Both sides at every x, arrays (..., x, stratum): how many answers took longer than the lower bound of bucket x.

    The first x is below every duration (all are longer), the last one above.
    """

    canary: Floats
    stable: Floats
    place: Floats
    """(..., x): log evidence that x is not stable's percentile."""

    @classmethod
    def of(cls, canary: Floats, stable: Floats) -> SlowAnswers:
        """From histograms, arrays (..., bucket, stratum)."""
        longer_canary, longer_stable = _longer(canary), _longer(stable)
        longer = longer_stable.sum(axis=-1)
        seen = Sums(count=np.broadcast_to(longer[..., :1], longer.shape), total=longer, squares=longer)
        place = np.logaddexp(against(SLOW_SHARE, seen, more=True), against(SLOW_SHARE, seen, more=False)) - log(2)
        return cls(canary=longer_canary, stable=longer_stable, place=place)

    def log_evidence(self, buckets: float, *, slower: bool = True) -> Floats:
        """Log evidence that the canary's percentile is more (not *slower*: less) than *buckets* above stable's."""
        weighed = self.place + log(PLACE_PART)
        open_x = np.flatnonzero(np.any(weighed < ENOUGH, axis=tuple(range(weighed.ndim - 1))))
        canary = self._side(self._canary_at(open_x, buckets), self.canary)
        stable = self._side(self.stable[..., open_x, :], self.stable)
        family = shares(canary, stable) if slower else shares(stable, canary)
        both = np.logaddexp(weighed[..., open_x], family.log_evidence(0.0) + log(1.0 - PLACE_PART))
        return np.asarray(np.min(both, axis=-1, initial=ENOUGH))

    def bound(self, alpha: float, *, lower: bool = True) -> float:
        """The least (else the largest) number of buckets that the canary's percentile can be above stable's.

        One experiment only; wrong with probability at most *alpha* over all looks; infinite where nothing is known. The
        evidence moves one way with the buckets, so they are halved.
        """
        sign = 1.0 if lower else -1.0
        holds, fails = -sign * WIDEST, sign * WIDEST
        if float(self.log_evidence(holds, slower=lower)) < -log(alpha):
            return -sign * float("inf")
        for _ in range(HALVINGS):
            middle = (holds + fails) / 2
            if float(self.log_evidence(middle, slower=lower)) >= -log(alpha):
                holds = middle
            else:
                fails = middle
        return holds

    def _canary_at(self, places: np.ndarray[tuple[int, ...], np.dtype[np.intp]], buckets: float) -> Floats:
        """The canary's answers that took longer than each x of *places*, moved up by *buckets*."""
        whole = floor(buckets)
        part = buckets - whole
        last = self.canary.shape[-2] - 1
        below = self.canary[..., np.clip(places + whole, 0, last), :]
        above = self.canary[..., np.clip(places + whole + 1, 0, last), :]
        moved = (1.0 - part) * below + part * above
        return np.where((places == last)[:, None], 0.0, moved)

    @staticmethod
    def _side(longer: Floats, all_x: Floats) -> Sums:
        return Sums(count=np.broadcast_to(all_x[..., :1, :], longer.shape), total=longer, squares=longer)


def percentile(histogram: Floats) -> float:
    """The bucket position that `SLOW_SHARE` of a histogram (bucket,) lies above; not a number when it is empty."""
    longer = _longer(histogram[:, None])[:, 0]
    if longer[0] <= 0:
        return float("nan")
    return float(np.interp(-SLOW_SHARE * longer[0], -longer, np.arange(len(longer))))


def _longer(histogram: Floats) -> Floats:
    """(..., bucket, stratum) -> (..., bucket + 1, stratum): how many lie in each bucket or above, and at last none."""
    above = np.cumsum(histogram[..., ::-1, :], axis=-2)[..., ::-1, :]
    return np.concatenate([above, np.zeros_like(above[..., :1, :])], axis=-2)
