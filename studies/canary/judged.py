"""When the judge aborts simulated rollouts: every second of each rollout is judged by the judge's own bounds.

To save time the bounds are not computed where a cruder one, that is never below them, is too small for an abort.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import log
from typing import Final, Protocol

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from gateway.rollouts.judge.bounds import Floats, Sums, means, shares
from studies.canary.traffic import Counts, Load, Scores, Setting, Share

Chosen = NDArray[np.bool_]

BLOCK_S: Final = 30
"""Seconds simulated at once."""
CHUNK: Final = 50_000


class Run(Protocol):
    """Rollouts simulated side by side, judged on one guardrail."""

    def advance(self, rng: Generator, counts: Counts, start: int) -> Chosen:
        """Return which of the next seconds abort, (rollout, second), given the canary requests in each."""
        ...

    def keep(self, chosen: Chosen) -> None:
        """Continue with these rollouts only."""
        ...


def abort_times(run: Run, setting: Setting) -> Floats:
    """Return the canary requests after which each rollout of *run* is aborted; infinite for never."""
    load, rng, rollouts = setting.load, setting.rng, setting.rollouts
    times = np.full(rollouts, np.inf)
    rows = np.arange(rollouts)
    requests = np.zeros(rollouts)
    for start in range(0, load.seconds, BLOCK_S):
        counts = load.canary_counts(rng, len(rows), min(BLOCK_S, load.seconds - start))
        seen = requests[:, None] + np.cumsum(counts, axis=1)
        hits = run.advance(rng, counts, start)
        hit: Chosen = np.any(hits, axis=1)
        times[rows[hit]] = seen[hit, hits[hit].argmax(axis=1)]
        rows, requests = rows[~hit], seen[~hit, -1]
        run.keep(~hit)
        if not len(rows):
            break
    return times


@dataclass(slots=True, kw_only=True)
class MeanRun:
    """Rollouts judged on a share of requests or on feedback."""

    quantity: Share | Scores
    margin: float
    alpha: float
    load: Load
    canary: Sums = field(init=False)
    """Sums up to now, (rollout, 1)."""
    stable: Sums = field(init=False)
    rollouts: int

    def __post_init__(self) -> None:
        nothing = np.zeros((self.rollouts, 1))
        self.canary = self.stable = Sums(count=nothing, total=nothing, squares=nothing)

    def advance(self, rng: Generator, counts: Counts, start: int) -> Chosen:
        canary = _running(self.canary, self.quantity.canary_side(rng, counts, start))
        stable = _running(self.stable, self.quantity.stable_side(rng, self.load.per_second - counts, start))
        needed = -log(self.alpha)
        crude = _crude_mean if isinstance(self.quantity, Scores) else _crude_share
        build = means if isinstance(self.quantity, Scores) else shares
        hits = crude(canary, stable, self.margin) >= needed
        rows, seconds = np.nonzero(hits)
        for begin in range(0, len(rows), CHUNK):
            where = rows[begin : begin + CHUNK], seconds[begin : begin + CHUNK]
            family = build(_at(canary, where), _at(stable, where))
            hits[where] = family.log_evidence(self.margin) >= needed
        last = np.arange(len(counts)), np.full(len(counts), counts.shape[1] - 1)
        self.canary, self.stable = _at(canary, last), _at(stable, last)
        return hits

    def keep(self, chosen: Chosen) -> None:
        self.canary = _at(self.canary, chosen)
        self.stable = _at(self.stable, chosen)


def _running(before: Sums, seconds: Sums) -> Sums:
    return Sums(
        count=before.count + np.cumsum(seconds.count, axis=1),
        total=before.total + np.cumsum(seconds.total, axis=1),
        squares=before.squares + np.cumsum(seconds.squares, axis=1),
    )


def _at(sums: Sums, where: tuple[NDArray[np.intp], NDArray[np.intp]] | Chosen) -> Sums:
    """Return the chosen experiments, each with one stratum."""
    shape = (-1, 1)
    return Sums(
        count=sums.count[where].reshape(shape),
        total=sums.total[where].reshape(shape),
        squares=sums.squares[where].reshape(shape),
    )


def poisson_distance(seen: Floats, expected: Floats) -> Floats:
    """Return the log of the most that any bet on a count could have won."""
    ratio = np.maximum(seen, 1e-9) / np.maximum(expected, 1e-9)
    return np.asarray(seen * np.log(ratio) - seen + expected)


def _crude_share(canary: Sums, stable: Sums, margin: float) -> Floats:
    """Bound the log evidence of `shares` from above: its exponent at the best bet, stable's part made linear."""
    expected = canary.count * stable.total / np.maximum(stable.count, 1.0) + margin * canary.count
    more = np.maximum(canary.total, expected)
    return poisson_distance(more, expected)


def _crude_mean(canary: Sums, stable: Sums, margin: float) -> Floats:
    """Bound the log evidence of `means` from above: costs of bets taken as squares, the spread at its least."""
    count = np.maximum(canary.count, 1.0)
    worse = canary.total - canary.count * stable.total / np.maximum(stable.count, 1.0) - margin * canary.count
    spread = np.maximum(canary.squares - canary.total**2 / count, 1e-9)
    return np.asarray(np.where(worse > 0, worse**2 / (2.0 * spread), 0.0))
