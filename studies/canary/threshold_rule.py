"""The rule for comparison: a metric of the last interval against a fixed threshold, some failures in a row.

That is how analyses of Argo Rollouts (`successCondition`, `interval`, `failureLimit`) and of Flagger (`thresholdRange`,
`interval`, `threshold`) are written. The rule is treated well here: it knows what stable is like, its threshold is the
lowest that keeps the false alarms asked for in traffic that is exactly the simulated one, and it looks every second.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from statistics import NormalDist
from typing import Final

import numpy as np

from gateway.rollouts.judge.bounds import Floats
from gateway.rollouts.judge.quantiles import SLOW_SHARE
from studies.canary.traffic import Counts, Latency, Scores, Setting, Share

CHUNK: Final = 250
"""Rollouts simulated at once."""
LADDER: Final[Floats] = np.geomspace(1.02, 3.0, 56)
"""Thresholds tried for a percentile, as parts of stable's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Abort when the metric of the last *interval_s* failed, and so did those of the intervals before."""

    interval_s: int
    failures: int
    threshold: float


PERCENTILE_ROLLOUTS: Final = 1_600
"""Rollouts that measure the false alarms of a threshold; the default plan allows ten of them."""
USUAL: Final = tuple((60, failures) for failures in (1, 3, 5))
"""A minute, as in the examples of both projects' manuals, and failures in a row."""
HINDSIGHT: Final = tuple(product((120, 300, 600, 1200), (1, 3)))
"""Other intervals; which one suits a fault is not known beforehand."""


def rule_values(counts: Floats, totals: Floats, interval_s: int, failures: int) -> Floats:
    """Return the least mean of the last intervals, (rollout, look), from sums up to each second that begin at 0.

    The first look ends the last interval that is needed.
    """
    within = counts[:, interval_s:] - counts[:, :-interval_s]
    means = np.where(within > 0, (totals[:, interval_s:] - totals[:, :-interval_s]) / np.maximum(within, 1), -1.0)
    looks = means.shape[1] - (failures - 1) * interval_s
    if looks <= 0:
        return np.empty((len(counts), 0))
    parts = [means[:, back * interval_s : back * interval_s + looks] for back in range(failures)]
    return np.asarray(np.minimum.reduce(parts))


def tune(
    quantity: Share | Scores | Latency, shapes: tuple[tuple[int, int], ...], alpha: float, setting: Setting
) -> list[Rule]:
    """Return for each interval and number of failures the lowest threshold that aborts at most *alpha* of rollouts.

    *quantity* is one in which the canary is as good as stable.
    """
    if isinstance(quantity, Latency):
        return _tune_percentile(quantity, shapes, alpha, setting)
    highest: dict[tuple[int, int], list[Floats]] = {shape: [] for shape in shapes}
    for _, count, total in _seconds(quantity, setting):
        for shape in shapes:
            highest[shape].append(rule_values(count, total, *shape).max(axis=1, initial=-1.0))
    rules = []
    for (interval_s, failures), parts in highest.items():
        rollouts = np.sort(np.concatenate(parts))
        threshold = float(rollouts[int(np.ceil((1 - alpha) * len(rollouts))) - 1])
        rules.append(Rule(interval_s=interval_s, failures=failures, threshold=threshold))
    return rules


def rule_times(rule: Rule, quantity: Share | Scores | Latency, setting: Setting) -> Floats:
    """Return the canary requests after which the rule aborts each rollout; infinite for never."""
    times = []
    seen, limit = _as_share(quantity, rule.threshold) if isinstance(quantity, Latency) else (quantity, rule.threshold)
    for requests, count, total in _seconds(seen, setting):
        hits = rule_values(count, total, rule.interval_s, rule.failures) > limit
        first = rule.interval_s * rule.failures - 1 + hits.argmax(axis=1)
        at = np.cumsum(requests, axis=1)[np.arange(len(requests)), first]
        times.append(np.where(hits.any(axis=1), at, np.inf))
    return np.concatenate(times)


def _tune_percentile(
    quantity: Latency, shapes: tuple[tuple[int, int], ...], alpha: float, setting: Setting
) -> list[Rule]:
    """Search by bisection: the higher the threshold, the fewer alarms."""
    setting = replace(setting, rollouts=min(setting.rollouts, PERCENTILE_ROLLOUTS))
    alarms: dict[int, dict[tuple[int, int], float]] = {}
    rules = []
    for shape in shapes:
        low, high = 0, len(LADDER) - 1
        while low < high:
            middle = (low + high) // 2
            if middle not in alarms:
                alarms[middle] = _alarms(quantity, float(LADDER[middle]), shapes, setting)
            low, high = (low, middle) if alarms[middle][shape] <= alpha else (middle + 1, high)
        rules.append(Rule(interval_s=shape[0], failures=shape[1], threshold=float(LADDER[low])))
    return rules


def _alarms(
    quantity: Latency, threshold: float, shapes: tuple[tuple[int, int], ...], setting: Setting
) -> dict[tuple[int, int], float]:
    """Return the share of the rollouts that each shape aborts."""
    share, limit = _as_share(quantity, threshold)
    found = dict.fromkeys(shapes, 0)
    for _, count, total in _seconds(share, setting):
        for shape in shapes:
            found[shape] += int(np.sum(rule_values(count, total, *shape).max(axis=1, initial=-1.0) > limit))
    return {shape: times / setting.rollouts for shape, times in found.items()}


def _as_share(quantity: Latency, threshold: float) -> tuple[Share, float]:
    """Turn a percentile into a share: it is above a threshold if more than its share of the durations are."""
    normal = NormalDist()
    above = normal.inv_cdf(1 - SLOW_SHARE) + (np.log(threshold) - np.log1p(quantity.longer)) / quantity.spread
    later = normal.cdf(-(above - np.log(quantity.later) / quantity.spread)) / normal.cdf(-above)
    share = Share(guardrail=quantity.guardrail, stable=SLOW_SHARE, canary=normal.cdf(-above), later=later)
    return share, SLOW_SHARE


def _seconds(quantity: Share | Scores, setting: Setting) -> Iterator[tuple[Counts, Floats, Floats]]:
    """Yield chunks of rollouts: canary requests of each second, the number of values up to it, and their sum."""
    for begin in range(0, setting.rollouts, CHUNK):
        some = min(CHUNK, setting.rollouts - begin)
        requests = setting.load.canary_counts(setting.rng, some, setting.load.seconds)
        canary = quantity.canary_side(setting.rng, requests, 0)
        yield requests, _up_to(canary.count), _up_to(canary.total)


def _up_to(seconds: Floats) -> Floats:
    return np.pad(np.cumsum(seconds, axis=1), ((0, 0), (1, 0)))
