"""Plots of the simulation for `docs/rollouts.md`."""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from pathlib import Path
from statistics import NormalDist
from typing import Final

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.random import Generator
from numpy.typing import NDArray

from gateway.rollouts.judge.bounds import Floats, Sums, shares
from gateway.rollouts.judge.evidence import LONE_PART
from registry.rollouts.guardrail_names import Guardrail
from registry.rollouts.guardrails import GuardrailPlan
from studies.canary.cases import LEVELS, CaseOutcome
from studies.canary.traffic import Load, Share

PEEKED: Final = 1_000
"""Rollouts without a difference, for the ordinary test."""
POINTS: Final = 200
"""Points of a curve."""
GREEN, RED, GREY = "#2a7f4f", "#b3372f", "#777777"


def write_plots(folder: Path, plan: GuardrailPlan, load: Load, outcomes: Sequence[CaseOutcome], seed: int) -> None:
    """Write `bounds.svg`, `peeking.svg` and, if regressions were simulated, `aborts.svg`."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    with mpl.rc_context({"svg.hashsalt": "lorry", "svg.fonttype": "none", "font.size": 9}):
        _save(_bounds(plan, load, rng), folder / "bounds.svg")
        _save(_peeking(load, rng), folder / "peeking.svg")
        regressions = [outcome for outcome in outcomes if outcome.rules]
        if regressions:
            _save(_aborts(regressions, load), folder / "aborts.svg")


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, metadata={"Date": None})


def _bounds(plan: GuardrailPlan, load: Load, rng: Generator) -> Figure:
    """Plot two rollouts: the judge's bounds on the error rate as requests arrive."""
    figure = Figure(figsize=(8, 3), layout="constrained")
    level, margin = LEVELS[Guardrail.ERROR_RATE], plan.margins[Guardrail.ERROR_RATE]
    for axes, canary in zip(figure.subplots(1, 2, sharey=True), (level, 3 * level), strict=True):
        ours, theirs = _rollouts(Share(guardrail=Guardrail.ERROR_RATE, stable=level, canary=canary), load, 1, rng)
        seconds = np.linspace(30, load.seconds - 1, POINTS).astype(int)
        ours, theirs = _at(ours, seconds), _at(theirs, seconds)
        alpha = plan.alpha_each * (1 - LONE_PART)
        low, high = shares(ours, theirs).lower_bound(alpha), -shares(theirs, ours).lower_bound(alpha)
        requests, low, high = ours.count[0, :, 0], low[0], high[0]
        found = (ours.total / ours.count - theirs.total / theirs.count)[0, :, 0]
        axes.fill_between(requests, 100 * low, 100 * high, color=GREEN, alpha=0.2, label="always-valid bounds")
        axes.plot(requests, 100 * found, color=GREEN, label="difference seen")
        axes.axhline(100 * margin, color=RED, linestyle="--", label="margin")
        past = np.flatnonzero(low > margin)
        if len(past):
            axes.axvline(requests[past[0]], color=RED, label="abort")
        axes.set(
            title=f"errors {level:.0%} on stable, {canary:.0%} on the canary", xlabel="canary requests", ylim=(-4, 8)
        )
        axes.legend(loc="upper right", frameon=False)
    figure.axes[0].set_ylabel("difference, percentage points")
    return figure


def _peeking(load: Load, rng: Generator) -> Figure:
    """Plot how many rollouts without a difference were called bad so far; both tests are made for 5 %."""
    level = LEVELS[Guardrail.ERROR_RATE]
    sides = _rollouts(Share(guardrail=Guardrail.ERROR_RATE, stable=level, canary=level), load, PEEKED, rng)
    ours, theirs = (_at(side, np.arange(100, load.seconds, 5)) for side in sides)
    pooled = (ours.total + theirs.total) / (ours.count + theirs.count)
    noise = np.sqrt(np.maximum(pooled * (1 - pooled), 1e-9) * (1 / ours.count + 1 / theirs.count))
    ordinary = (ours.total / ours.count - theirs.total / theirs.count) / noise > NormalDist().inv_cdf(0.95)
    valid = shares(ours, theirs).log_evidence(0.0) >= -log(0.05)
    figure = Figure(figsize=(8, 3), layout="constrained")
    axes = figure.subplots()
    requests = load.weight * load.per_second * np.arange(100, load.seconds, 5)
    for hits, color, label in (
        (ordinary[..., 0], GREY, "ordinary test at 5 %"),
        (valid, GREEN, "always-valid test at 5 %"),
    ):
        axes.plot(requests, 100 * np.maximum.accumulate(hits, axis=1).mean(axis=0), color=color, label=label)
    axes.axhline(5, color=RED, linestyle="--", label="5 %")
    axes.set(xlabel="canary requests", ylabel="% of good canaries called bad", ylim=(0, None))
    axes.legend(loc="center right", frameon=False)
    return figure


def _aborts(regressions: Sequence[CaseOutcome], load: Load) -> Figure:
    """Plot how many rollouts are aborted after how many requests."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    requests = np.linspace(0, load.weight * load.per_second * load.seconds, POINTS)
    for axes, outcome in zip(figure.subplots(2, 2, sharey=True).flat, regressions, strict=False):
        axes.plot(requests, _aborted_by(outcome.times, requests), color=GREEN, label="judge")
        for rule, times in zip(outcome.rules, outcome.rule_times, strict=True):
            style = {"steady": "-", "hindsight": ":", "bad_hour": "--"}[rule.tuned_on]
            label = f"threshold, {rule.tuned_on.replace('_', ' ')}"
            axes.plot(requests, _aborted_by(times, requests), color=GREY, linestyle=style, label=label)
        axes.set(title=outcome.title, xlabel="canary requests", ylim=(0, 102))
        axes.set_xlim(0, min(4 * outcome.slowest_tenth_requests, requests[-1]))
    for axes in (figure.axes[0], figure.axes[2]) if len(figure.axes) > 2 else figure.axes[:1]:
        axes.set_ylabel("% of rollouts aborted")
    figure.axes[0].legend(loc="lower right", frameon=False)
    return figure


def _aborted_by(times: Floats, requests: Floats) -> Floats:
    return 100 * np.searchsorted(np.sort(times), requests, side="right") / len(times)


def _rollouts(share: Share, load: Load, rollouts: int, rng: Generator) -> tuple[Sums, Sums]:
    """Return the sums up to each second, (rollout, second, 1)."""
    counts = load.canary_counts(rng, rollouts, load.seconds)
    sides = share.canary_side(rng, counts, 0), share.stable_side(rng, load.per_second - counts, 0)
    ours, theirs = (
        Sums(
            count=np.cumsum(side.count, axis=1)[..., None],
            total=np.cumsum(side.total, axis=1)[..., None],
            squares=np.cumsum(side.squares, axis=1)[..., None],
        )
        for side in sides
    )
    return ours, theirs


def _at(sums: Sums, seconds: NDArray[np.intp]) -> Sums:
    return Sums(count=sums.count[:, seconds], total=sums.total[:, seconds], squares=sums.squares[:, seconds])
