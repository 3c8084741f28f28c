"""The rule to compare with: a metric of the last interval against a fixed threshold, so many failures in a row.

That is how analyses of Argo Rollouts (`successCondition`, `interval`, `failureLimit`) and of Flagger (`thresholdRange`,
`interval`, `threshold`) are written. The rule is treated well here: it knows what stable is like, its threshold is the
lowest that keeps the false alarms asked for in traffic that is exactly the simulated one, and it looks every second.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from statistics import NormalDist
from typing import Final

import numpy as np

from gateway.canary.bounds import Floats
from gateway.canary.quantiles import SLOW_SHARE
from gateway.canary.simulation.traffic import Counts, Feedback, Latency, Setting, Share

CHUNK: Final = 1_000
"""Rollouts that are simulated at once."""
LADDER: Final[Floats] = np.geomspace(1.02, 3.0, 56)
"""Thresholds tried for a percentile, as parts of stable's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """When to abort: the metric of the last *interval_s* failed, and so did those of the intervals before it."""

    interval_s: int
    failures: int
    threshold: float


USUAL: Final = tuple((60, failures) for failures in (1, 3, 5))
"""Interval and failures in a row as the examples in both projects' manuals have them."""
HINDSIGHT: Final = tuple(product((120, 300, 600, 1200), (1, 3)))
"""Other intervals: nobody knows beforehand which of them suits the fault that will come."""


def rule_values(count: Floats, total: Floats, interval_s: int, failures: int) -> Floats:
    """The least mean of the last intervals, (rollout, look); the first look ends the last interval that is needed."""
    counts, totals = (np.pad(np.cumsum(each, axis=1), ((0, 0), (1, 0))) for each in (count, total))
    within = counts[:, interval_s:] - counts[:, :-interval_s]
    means = np.where(within > 0, (totals[:, interval_s:] - totals[:, :-interval_s]) / np.maximum(within, 1), -1.0)
    looks = means.shape[1] - (failures - 1) * interval_s
    if looks <= 0:
        return np.empty((len(count), 0))
    parts = [means[:, back * interval_s : back * interval_s + looks] for back in range(failures)]
    return np.asarray(np.minimum.reduce(parts))


def tune(
    quantity: Share | Feedback | Latency, shapes: tuple[tuple[int, int], ...], alpha: float, setting: Setting
) -> list[Rule]:
    """For each interval and number of failures the lowest threshold that aborts at most *alpha* of such rollouts.

    A shape that finds none is left out. *quantity* is one in which the canary is as good as stable.
    """
    if isinstance(quantity, Latency):
        return _tune_percentile(quantity, shapes, alpha, setting)
    highest: dict[tuple[int, int], list[Floats]] = {shape: [] for shape in shapes}
    for count, total in _seconds(quantity, setting):
        for shape in shapes:
            highest[shape].append(rule_values(count, total, *shape).max(axis=1, initial=-1.0))
    rules = []
    for (interval_s, failures), parts in highest.items():
        rollouts = np.sort(np.concatenate(parts))
        threshold = float(rollouts[int(np.ceil((1 - alpha) * len(rollouts))) - 1])
        rules.append(Rule(interval_s=interval_s, failures=failures, threshold=threshold))
    return rules


def rule_times(rule: Rule, quantity: Share | Feedback | Latency, setting: Setting) -> Floats:
    """Canary requests after which the rule aborts each rollout; infinite for those that it never aborts."""
    times = []
    seen, limit = _as_share(quantity, rule.threshold) if isinstance(quantity, Latency) else (quantity, rule.threshold)
    for requests, count, total in _requests_and_seconds(seen, setting):
        hits = rule_values(count, total, rule.interval_s, rule.failures) > limit
        first = rule.interval_s * rule.failures - 1 + hits.argmax(axis=1)
        at = np.cumsum(requests, axis=1)[np.arange(len(requests)), first]
        times.append(np.where(hits.any(axis=1), at, np.inf))
    return np.concatenate(times)


def _tune_percentile(
    quantity: Latency, shapes: tuple[tuple[int, int], ...], alpha: float, setting: Setting
) -> list[Rule]:
    wanted, rules = list(shapes), []
    for threshold in LADDER:
        share, limit = _as_share(quantity, float(threshold))
        alarms = dict.fromkeys(wanted, 0)
        for count, total in _seconds(share, setting):
            for shape in wanted:
                alarms[shape] += int(np.sum(rule_values(count, total, *shape).max(axis=1, initial=-1.0) > limit))
        for shape, found in alarms.items():
            if found <= alpha * setting.rollouts:
                rules.append(Rule(interval_s=shape[0], failures=shape[1], threshold=float(threshold)))
                wanted.remove(shape)
    return rules


def _as_share(quantity: Latency, threshold: float) -> tuple[Share, float]:
    """A percentile is above a threshold when more than its share of the durations are: that share, and its limit."""
    normal = NormalDist()
    above = normal.inv_cdf(1 - SLOW_SHARE) + (np.log(threshold) - np.log1p(quantity.longer)) / quantity.spread
    later = normal.cdf(-(above - np.log(quantity.later) / quantity.spread)) / normal.cdf(-above)
    share = Share(guardrail=quantity.guardrail, stable=SLOW_SHARE, canary=normal.cdf(-above), later=later)
    return share, SLOW_SHARE


def _seconds(quantity: Share | Feedback, setting: Setting) -> Iterator[tuple[Floats, Floats]]:
    for _, count, total in _requests_and_seconds(quantity, setting):
        yield count, total


def _requests_and_seconds(quantity: Share | Feedback, setting: Setting) -> Iterator[tuple[Counts, Floats, Floats]]:
    for begin in range(0, setting.rollouts, CHUNK):
        some = min(CHUNK, setting.rollouts - begin)
        requests = setting.load.canary_counts(setting.rng, some, setting.load.seconds)
        canary = quantity.canary_side(setting.rng, requests, 0)
        yield requests, canary.count, canary.total
