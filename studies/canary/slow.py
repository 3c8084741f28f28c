"""Simulated rollouts that are judged on a percentile of durations."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil, floor, log
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.random import Generator

from gateway.rollouts.judge.bounds import Floats
from gateway.rollouts.judge.quantiles import PLACE_PART, SLOW_SHARE, SlowAnswers, buckets_of, empirical, longer, places
from studies.canary.judged import Chosen, poisson_distance
from studies.canary.traffic import TURN, Counts, Latency, Load

LIKELY: Final = 1 << 13
"""Number of equally likely durations that stand for the tail."""
NEAR: Final = 12
ROWS: Final = 200
"""Rollouts judged at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Durations:
    """Durations of some seconds in order: rollout by rollout, second by second."""

    cell: Counts
    """The cell of each duration, rollout * seconds + second."""
    bucket: Counts

    def histogram(self, cells: int, buckets: int) -> Floats:
        """Return a histogram of each cell, (cell, bucket)."""
        flat = np.bincount(self.cell * buckets + self.bucket, minlength=cells * buckets)
        return flat.reshape(cells, buckets).astype(np.float64)


@dataclass(slots=True, kw_only=True)
class SlowRun:
    """Rollouts judged on the 95th percentile of durations; a `judged.Run`."""

    quantity: Latency
    margin: float
    alpha: float
    load: Load
    rollouts: int
    canary: Floats = field(init=False)
    """Histograms up to now, (rollout, bucket); the first bucket has all durations below the tail."""
    stable: Floats = field(init=False)
    part: float = field(init=False)
    """The share of the durations, the longest ones, that is simulated one by one."""
    tail: Floats = field(init=False)
    """Positions in buckets of the durations of that share, each equally likely."""

    def __post_init__(self) -> None:
        normal, spread = NormalDist(), self.quantity.spread_buckets
        self.part = 0.25 if self.quantity.later == 1.0 else 0.5
        lowest = normal.inv_cdf(1.0 - self.part)
        parts = 1.0 - self.part * (np.arange(LIKELY) + 0.5) / LIKELY
        self.tail = np.array([(normal.inv_cdf(part) - lowest) * spread for part in parts]) + 1.0
        longest = self.tail[0] + buckets_of(self.quantity.later - 1.0) + buckets_of(self.quantity.longer)
        self.canary = self.stable = np.zeros((self.rollouts, ceil(longest) + 1))

    def advance(self, rng: Generator, counts: Counts, start: int) -> Chosen:
        canary = self._draw(rng, counts, start, self.quantity.longer)
        stable = self._draw(rng, self.load.per_second - counts, start, 0.0)
        hits = self._crude(canary, stable, counts) >= -log(self.alpha)
        rows = np.flatnonzero(hits.any(axis=1))
        for begin in range(0, len(rows), ROWS):
            some = rows[begin : begin + ROWS]
            hits[some] = self._judged(some, hits[some], canary, stable, counts)
        self.canary = self._after(self.canary, canary, counts)
        self.stable = self._after(self.stable, stable, self.load.per_second - counts)
        return hits

    def keep(self, chosen: Chosen) -> None:
        self.canary, self.stable = self.canary[chosen], self.stable[chosen]

    def _draw(self, rng: Generator, counts: Counts, start: int, longer: float) -> Durations:
        rare = rng.binomial(counts, self.part).ravel()
        cell = np.repeat(np.arange(counts.size), rare)
        position = self.tail[rng.integers(LIKELY, size=len(cell), dtype=np.int32)] + buckets_of(longer)
        turned = start + cell % counts.shape[1] >= TURN
        position = position + turned * buckets_of(self.quantity.later - 1.0)
        return Durations(cell=cell, bucket=np.floor(position).astype(np.int64))

    def _after(self, before: Floats, fresh: Durations, counts: Counts) -> Floats:
        """Return the histograms at the end of the seconds."""
        rollouts, seconds = counts.shape
        by_rollout = Durations(cell=fresh.cell // seconds, bucket=fresh.bucket).histogram(rollouts, before.shape[1])
        by_rollout[:, 0] += counts.sum(axis=1) - by_rollout.sum(axis=1)
        return before + by_rollout

    def _crude(self, canary: Durations, stable: Durations, counts: Counts) -> Floats:
        """Bound the log evidence of all seconds from above, by the best bets at stable's percentile.

        A lower percentile common to all seconds stands for the percentile of each second, so the bound holds for all.
        """
        shape = counts.shape
        after = self._after(self.stable, stable, self.load.per_second - counts)
        above = longer(after[..., None])[..., 0]
        x = np.sum(above > SLOW_SHARE * above[:, :1], axis=1) - np.where(self.stable.any(axis=1), 2, 8)
        moved = np.maximum(x + floor(buckets_of(self.margin)), 0)
        slow_stable = _above(self.stable, x)[:, None] + _each_second(stable, x, shape)
        slow_canary = _above(self.canary, moved)[:, None] + _each_second(canary, moved, shape)
        count_stable = self.stable.sum(axis=1)[:, None] + np.cumsum(self.load.per_second - counts, axis=1)
        expected = SLOW_SHARE * (self.canary.sum(axis=1)[:, None] + np.cumsum(counts, axis=1))
        compared = poisson_distance(np.maximum(slow_canary, expected), expected)
        crude = np.logaddexp(log(PLACE_PART), compared + log(1.0 - PLACE_PART))
        return np.where(slow_stable >= SLOW_SHARE * count_stable, crude, np.inf)

    def _judged(self, rows: Counts, asked: Chosen, canary: Durations, stable: Durations, counts: Counts) -> Chosen:
        """Return which of the *asked* seconds of some rollouts abort."""
        ours = longer(_history(canary, self.canary, rows, counts)[asked][..., None])
        theirs = longer(_history(stable, self.stable, rows, self.load.per_second - counts)[asked][..., None])
        buckets, needed = buckets_of(self.margin), -log(self.alpha)
        percentiles = empirical(theirs[..., 0])[..., None]
        possible = SlowAnswers.at(ours, theirs, percentiles).log_evidence(buckets) >= needed
        if possible.any():
            near = _near(ours[possible], theirs[possible], percentiles[possible], needed)
            possible[possible] = near.log_evidence(buckets) >= needed
        hits = asked.copy()
        hits[asked] = possible
        return hits


def _near(ours: Floats, theirs: Floats, percentiles: Floats, needed: float) -> SlowAnswers:
    """Judge only at x near stable's percentiles; farther away each x is excluded even more surely."""
    lowest = max(int(percentiles.min()) - NEAR, 0)
    highest = min(int(percentiles.max()) + NEAR, ours.shape[1] - 1)
    bounds = np.broadcast_to(np.arange(lowest, highest + 1.0), (len(ours), highest + 1 - lowest))
    near = SlowAnswers.at(ours, theirs, np.concatenate([bounds, percentiles], axis=1))
    lowest_denied = near.x[0, 0] > lowest or near.place[:, 0].min() >= needed
    highest_denied = near.x[0, -2] < highest or near.place[:, -2].min() >= needed
    return (
        near
        if near.x.shape[1] > NEAR and lowest_denied and highest_denied
        else SlowAnswers.at(ours, theirs, places(theirs[..., 0]))
    )


def _above(histograms: Floats, x: Counts) -> Floats:
    """Return how many of each rollout lie in bucket x or above."""
    return np.asarray(np.sum(histograms * (np.arange(histograms.shape[1]) >= x[:, None]), axis=1))


def _each_second(fresh: Durations, x: Counts, shape: tuple[int, ...]) -> Floats:
    """Return how many durations up to each second lie in bucket x of their rollout or above."""
    slow = fresh.bucket >= x[fresh.cell // shape[1]]
    return np.cumsum(np.bincount(fresh.cell[slow], minlength=shape[0] * shape[1]).reshape(shape), axis=1)


def _history(fresh: Durations, before: Floats, rows: Counts, counts: Counts) -> Floats:
    """Return the histograms of some rollouts, in rising order, at each second, (rollout, second, bucket)."""
    seconds = counts.shape[1]
    first, last = np.searchsorted(fresh.cell, [rows[0] * seconds, (rows[-1] + 1) * seconds])
    cell, bucket = fresh.cell[first:last], fresh.bucket[first:last]
    place = np.full(rows[-1] - rows[0] + 1, -1)
    place[rows - rows[0]] = np.arange(len(rows))
    mine = place[cell // seconds - rows[0]]
    chosen = mine >= 0
    some = Durations(cell=mine[chosen] * seconds + cell[chosen] % seconds, bucket=bucket[chosen])
    added = some.histogram(len(rows) * seconds, before.shape[1]).reshape(len(rows), seconds, -1)
    added[..., 0] += counts[rows] - added.sum(axis=-1)
    return before[rows, None, :] + np.cumsum(added, axis=1)
