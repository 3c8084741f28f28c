"""Always-valid bounds on how much worse the canary's mean is than stable's. Pure; only numpy.

Every function works on the sums of *strata*, groups of requests that differ only in their side (here: one step on one
replica). The last axis of an array counts strata; axes before it are experiments of their own, so that the
simulator and the judge run the same code.

The construction. In a stratum the canary takes a fixed share of the traffic, while the means of both sides may wander
in time. A process exp(gain - excess * drift) is chosen so that its expectation never grows while the canary's mean is
at most stable's plus `excess`: what happens to both sides, known or not, cancels out. Such a process ever passes
1/alpha, at any look, with probability at most alpha (Ville 1939), so that looking every second costs nothing. Products
over strata and averages over a family fixed beforehand are such processes again; the average is sharp for small and for
large differences at once (Robbins 1970, "Statistical methods related to the law of the iterated logarithm").
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RATIOS: Final[Floats] = np.geomspace(1.05, 8.0, 20)
"""Ratios of canary to stable that `shares` bets on. The largest keeps one event from weighing more than log 8, so that
fewer than four events never abort a rollout with the default plan; a client that retries twice makes only three."""
TILTS: Final[Floats] = np.geomspace(0.03, 0.9, 10)
"""Sizes of the bets of `means`, as parts of the largest tilt that its inequality allows."""
CENTRES: Final[Floats] = np.linspace(0.0, 1.0, 11)
"""Values around which `means` measures the spread; the best is the mean, which is not known beforehand."""
NEWTON_STEPS: Final = 20
FINEST: Final = 1e-6
"""Precision to which a bound is found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """Counts and sums of one side in each stratum, arrays of one shape."""

    count: Floats
    total: Floats
    squares: Floats
    """Sum of the squares; equal to `total` where every value is 0 or 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Processes exp(gain - excess * drift), one for each place of the first axis, summed over all strata."""

    gains: Floats
    drifts: Floats

    def log_evidence(self, excess: float) -> Floats:
        """Return the log of the average process: evidence that the canary's mean exceeds stable's plus *excess*."""
        return log_mean_exp(self.gains - excess * self.drifts)

    def lower_bound(self, alpha: float) -> Floats:
        """Return a lower bound of the excess, wrong with probability at most *alpha* over all looks; -inf without data.

        The bound is the root of a convex decreasing function. Newton's method starts on its left, where a step cannot
        overshoot.
        """
        needed = -log(alpha)
        has_drift = self.drifts > 0
        drifts = np.where(has_drift, self.drifts, 1.0)
        # where one process alone reaches the needed average lies at or left of the root
        single = np.where(has_drift, (self.gains - log(len(self.gains)) - needed) / drifts, -np.inf)
        start = np.max(single, axis=0)
        known = np.isfinite(start)
        root = np.where(known, start, 0.0)
        for _ in range(NEWTON_STEPS):
            exponents = self.gains - root * self.drifts
            highest = np.max(exponents, axis=0)
            weights = np.exp(exponents - highest)
            height = highest + np.log(np.mean(weights, axis=0)) - needed
            slope = np.sum(weights * self.drifts, axis=0) / np.sum(weights, axis=0)
            step = np.where(known, height / np.where(slope > 0, slope, 1.0), 0.0)
            root = root + step
            if np.max(np.abs(step), initial=0.0) < FINEST:
                break
        return np.where(known, root, -np.inf)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bets:
    """The weights of one bad value on either side, arrays (bet, ..., stratum): `shares` before values are known."""

    canary: Floats
    stable: Floats
    drift: Floats
    """The drift of one value of the canary, good or bad, for each unit of excess."""

    @classmethod
    def of(cls, canary_count: Floats, stable_count: Floats) -> Bets:
        """Return the bets for strata with these counts; a stratum that lacks a side weighs nothing."""
        ratio = RATIOS.reshape(-1, *(1,) * canary_count.ndim)
        odds = _odds(canary_count, stable_count)
        with_odds = 1.0 + odds * ratio
        drift = np.where(stable_count > 0, (ratio - 1.0) / with_odds, 0.0)
        # Stable's weight is log(1 - k (r - 1)/(1 + kr)), with k the odds and r the ratio.
        return cls(canary=np.log1p(drift), stable=np.log((1.0 + odds) / with_odds), drift=drift)

    def gains(self, canary_total: Floats, stable_total: Floats) -> Floats:
        """Return the gains of these numbers of bad values on each side, summed over strata."""
        return np.asarray(np.sum(self.canary * canary_total + self.stable * stable_total, axis=-1))


def shares(canary: Sums, stable: Sums) -> Family:
    """Return processes for values in [0, 1] that are rarely above 0: errors, empty answers, slow answers.

    A value v with mean m has E exp(av) <= exp(m (e^a - 1)) for every a, by convexity (the sub-Poisson bound: Howard,
    Ramdas, McAuliffe, Sekhon 2021, "Time-uniform, nonparametric, nonasymptotic confidence sequences", section 3). Let k
    be the ratio of canary to stable requests. With e^a - 1 = (r - 1)/(1 + kr) on the canary and 1 - e^-b = k (e^a - 1)
    on stable, the mean of stable cancels from the product, whatever it is and however it moves. At excess 0 the rest is
    the likelihood ratio of a test that asks of each event only on which side it fell (compare the two-sample
    e-variables of Turner, Ly, Grünwald 2024, "Generic E-variables for exact sequential k-sample tests that allow for
    optional stopping"); an excess adds its events to the canary's. r is the ratio bet on, `RATIOS` the family.
    """
    bets = Bets.of(canary.count, stable.count)
    return Family(
        gains=bets.gains(canary.total, stable.total),
        drifts=np.sum(bets.drift * canary.count, axis=-1),
    )


def means(canary: Sums, stable: Sums) -> Family:
    """Return processes for values anywhere in [0, 1] that make use of their spread: scores of feedback.

    E exp(t (v - m) - p(t) (v - c)^2) <= 1 for a value with mean m and any fixed c in [0, 1], where p(t) is
    (-log(1 - ct) - ct)/c^2 (Fan, Grama, Liu 2015, "Exponential inequalities for martingales with applications", whose
    inequality for values above -1 is used at (v - c)/c; the empirical Bernstein bounds of Howard et al. 2021, theorem
    4, and of Waudby-Smith, Ramdas 2024, "Estimating means of bounded random variables by betting", rest on it too).
    With a fixed c sums suffice. With t/(1 + k) on the canary and, mirrored, kt/(1 + k) on stable, stable's
    mean cancels as in `shares`. The family varies t and c.
    """
    ones = (1,) * canary.count.ndim
    centre = np.tile(CENTRES, len(TILTS)).reshape(-1, *ones)
    tilt = np.repeat(TILTS, len(CENTRES)).reshape(-1, *ones) / np.maximum(centre, 1.0 - centre)
    odds = _odds(canary.count, stable.count)
    ours, theirs = tilt / (1.0 + odds), tilt * odds / (1.0 + odds)
    gains = ours * canary.total - theirs * stable.total
    gains = (
        gains - _cost(ours, centre) * _spread(canary, centre) - _cost(theirs, 1.0 - centre) * _spread(stable, centre)
    )
    both = stable.count > 0
    return Family(
        gains=np.sum(np.where(both, gains, 0.0), axis=-1),
        drifts=np.sum(np.where(both, ours * canary.count, 0.0), axis=-1),
    )


def against(known: float, seen: Sums, *, more: bool) -> Floats:
    """Return log evidence that the mean is more (or less) than a *known* one, element by element."""
    ratio = RATIOS.reshape(-1, *(1,) * seen.count.ndim)
    # The sub-Poisson bound of `shares`, with the known mean in place of a second side.
    tilt = np.log(ratio) if more else -np.log(ratio)
    return log_mean_exp(tilt * seen.total - np.expm1(tilt) * known * seen.count)


def _odds(canary_count: Floats, stable_count: Floats) -> Floats:
    # The observed ratio stands for the stratum's fixed odds (see the module).
    return np.where(stable_count > 0, canary_count / np.maximum(stable_count, 1.0), 0.0)


def _cost(tilt: Floats, reach: Floats) -> Floats:
    """Return the cost of a squared deviation above minus *reach*: half the square of the tilt, or slightly more."""
    # The quotient is 0/0 at 0. It grows with the part, so a larger part only costs more, and the bound stays valid.
    part = np.maximum(tilt * reach, 1e-4)
    return np.asarray(tilt**2 * (-np.log1p(-part) - part) / part**2)


def _spread(side: Sums, centre: Floats) -> Floats:
    return side.squares - 2.0 * centre * side.total + centre**2 * side.count


def log_mean_exp(exponents: Floats) -> Floats:
    """Return the log of the mean over the first axis of exp(exponents)."""
    highest = np.max(exponents, axis=0)  # taken out, since exp of a large gain would overflow
    return np.asarray(highest + np.log(np.mean(np.exp(exponents - highest), axis=0)))
