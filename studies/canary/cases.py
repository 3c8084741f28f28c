"""The simulated cases and their results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from gateway.rollouts.judge.bounds import Floats
from gateway.rollouts.judge.evidence import LONE_PART, alpha_of_group
from registry.rollouts.guardrail_names import Guardrail
from registry.rollouts.guardrails import GuardrailPlan
from studies.canary.judged import MeanRun, abort_times
from studies.canary.slow import SlowRun
from studies.canary.threshold_rule import HINDSIGHT, USUAL, rule_times, tune
from studies.canary.traffic import (
    FOUR_POINTS,
    HALF_A_POINT_LESS,
    THREE_POINTS,
    Latency,
    Scores,
    Setting,
    Share,
)

Quantity = Share | Scores | Latency

LEVELS: Final = {
    Guardrail.ERROR_RATE: 0.01,
    Guardrail.LENGTH_FINISHES: 0.10,
    Guardrail.EMPTY_ANSWERS: 0.002,
    Guardrail.INVALID_JSON: 0.005,
    Guardrail.INVALID_TOOL_CALLS: 0.01,
}
"""Stable's value of each share."""
TUNING: Final = 3_000
"""Rollouts on which a threshold is tuned."""
CHOOSING: Final = 1_000
"""Rollouts on which the best interval and number of failures are chosen."""
TUNED_ON: Final = ("steady", "hindsight", "bad_hour")
SPREADS: Final = {Guardrail.TTFT_P95: 0.4, Guardrail.TPOT_P95: 0.2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A regression's quantity with a canary as good as stable."""

    steady: Quantity
    bad_hour: Quantity
    """Whether both sides get worse after ten minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Rollouts with the same difference between canary and stable, or with none."""

    name: str
    title: str
    quantities: tuple[Quantity, ...]
    """The simulated quantities; each is judged with its part of alpha."""
    compared: Compared | None = None
    """Quantities on which a fixed threshold is tuned for a regression."""


def as_good_as_stable(*, later: bool = False) -> tuple[Quantity, ...]:
    """Return every guardrail's quantity with a canary as good as stable; with *later* both get worse."""
    shares = (
        Share(guardrail=each, stable=level, canary=level, later=3.0 if later else 1.0) for each, level in LEVELS.items()
    )
    slow = (Latency(guardrail=each, spread=spread, later=1.5 if later else 1.0) for each, spread in SPREADS.items())
    return (*shares, *slow, Scores(later=HALF_A_POINT_LESS if later else None))


def at_the_margin(plan: GuardrailPlan) -> tuple[Quantity, ...]:
    """Return every guardrail's quantity with a canary worse by exactly the margin, the worst that must not abort."""
    margins = plan.margins
    shares = (Share(guardrail=each, stable=level, canary=level + margins[each]) for each, level in LEVELS.items())
    slow = (Latency(guardrail=each, spread=spread, longer=margins[each]) for each, spread in SPREADS.items())
    part = margins[Guardrail.FEEDBACK] / 0.125  # of half a point
    moved = tuple((1 - part) * four + part * less for four, less in zip(FOUR_POINTS, HALF_A_POINT_LESS, strict=True))
    return (*shares, *slow, Scores(canary=moved))


def cases(plan: GuardrailPlan) -> tuple[Case, ...]:
    """Return all cases for a *plan* with every guardrail on."""
    good = {each.guardrail: each for each in as_good_as_stable()}
    bad = {each.guardrail: each for each in as_good_as_stable(later=True)}
    regressions: dict[tuple[str, str], Quantity] = {
        ("errors", "errors 1 % -> 3 %"): Share(guardrail=Guardrail.ERROR_RATE, stable=0.01, canary=0.03),
        ("slow", "TTFT p95 +20 %"): Latency(
            guardrail=Guardrail.TTFT_P95, spread=SPREADS[Guardrail.TTFT_P95], longer=0.2
        ),
        ("json", "invalid JSON 0.5 % -> 5 %"): Share(guardrail=Guardrail.INVALID_JSON, stable=0.005, canary=0.05),
        ("feedback", "feedback 4 -> 3 of 5 points"): Scores(canary=THREE_POINTS),
    }
    return (
        Case(name="none", title="no difference", quantities=tuple(good.values())),
        Case(name="margin", title="worse by exactly the margins", quantities=at_the_margin(plan)),
        Case(name="both", title="both sides get worse", quantities=tuple(bad.values())),
        *(
            Case(
                name=name,
                title=title,
                quantities=(quantity,),
                compared=Compared(steady=good[quantity.guardrail], bad_hour=bad[quantity.guardrail]),
            )
            for (name, title), quantity in regressions.items()
        ),
        *(Case(name=name, title=title, quantities=(quantity,)) for (name, title), quantity in _sizes().items()),
    )


def _sizes() -> dict[tuple[str, str], Quantity]:
    """Return smaller and larger faults, which show how the time until the abort depends on the size."""
    errors = {share: Share(guardrail=Guardrail.ERROR_RATE, stable=0.01, canary=share) for share in (0.02, 0.10)}
    empty, length = LEVELS[Guardrail.EMPTY_ANSWERS], LEVELS[Guardrail.LENGTH_FINISHES]
    spread = SPREADS[Guardrail.TTFT_P95]
    return {
        ("errors-2", "errors 1 % -> 2 %"): errors[0.02],
        ("errors-10", "errors 1 % -> 10 %"): errors[0.10],
        ("slow-50", "TTFT p95 +50 %"): Latency(guardrail=Guardrail.TTFT_P95, spread=spread, longer=0.5),
        ("empty", "every answer empty"): Share(guardrail=Guardrail.EMPTY_ANSWERS, stable=empty, canary=1.0),
        ("endless", "no answer ends by itself"): Share(guardrail=Guardrail.LENGTH_FINISHES, stable=length, canary=1.0),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleOutcome:
    """The result of a fixed threshold on a regression."""

    tuned_on: str
    """`steady`: stable never changes, the usual interval; `hindsight`: the interval that finds this fault the fastest;
    `bad_hour`: the usual interval, and no alarm when both sides get worse."""
    interval_s: int
    failures: int
    threshold: float
    aborted: float
    median_requests: float
    aborted_when_both_get_worse: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseOutcome:
    """The result of the judge on a case."""

    name: str
    title: str
    rollouts: int
    aborted: float
    """Share of the rollouts that any guardrail aborted."""
    aborted_by: dict[str, float]
    median_requests: float
    """Median requests of the canary until the abort; infinite if fewer than half were aborted."""
    slowest_tenth_requests: float
    rules: tuple[RuleOutcome, ...]
    times: Floats
    """Requests of the canary until the abort, for each rollout."""
    rule_times: tuple[Floats, ...]
    """Requests of the canary until the abort by each of `rules`."""


def simulate(case: Case, plan: GuardrailPlan, setting: Setting, done: Callable[[], None]) -> CaseOutcome:
    """Run a case; *done* is called after each part of it, `parts_of` times."""
    times = []
    for quantity in case.quantities:
        margin = plan.margins[quantity.guardrail]
        alpha = alpha_of_group(quantity.guardrail, plan.alpha_each) * (1 - LONE_PART)
        times.append(abort_times(_run(quantity, margin, alpha, setting), setting))
        done()
    earliest = np.min(times, axis=0)
    rules: list[tuple[RuleOutcome, Floats]] = []
    if case.compared is not None:
        for tuned_on in TUNED_ON:
            rules.append(_best_rule(case.quantities[0], case.compared, tuned_on, plan.alpha_each, setting))
            done()
    return CaseOutcome(
        name=case.name,
        title=case.title,
        rollouts=setting.rollouts,
        aborted=float(np.mean(np.isfinite(earliest))),
        aborted_by={
            str(each.guardrail): float(np.mean(np.isfinite(part)))
            for each, part in zip(case.quantities, times, strict=True)
        },
        median_requests=quantile(earliest, 0.5),
        slowest_tenth_requests=quantile(earliest, 0.9),
        rules=tuple(rule for rule, _ in rules),
        times=earliest,
        rule_times=tuple(times for _, times in rules),
    )


def parts_of(case: Case) -> int:
    """Return how many parts `simulate` reports."""
    return len(case.quantities) + (len(TUNED_ON) if case.compared else 0)


def quantile(times: Floats, part: float) -> float:
    """Return the time by which this share of the rollouts was aborted; infinite if it never was."""
    return float(np.sort(times)[int(np.ceil(part * len(times))) - 1])


def _run(quantity: Quantity, margin: float, alpha: float, setting: Setting) -> MeanRun | SlowRun:
    if isinstance(quantity, Latency):
        return SlowRun(quantity=quantity, margin=margin, alpha=alpha, load=setting.load, rollouts=setting.rollouts)
    return MeanRun(quantity=quantity, margin=margin, alpha=alpha, load=setting.load, rollouts=setting.rollouts)


def _best_rule(
    regressed: Quantity, compared: Compared, tuned_on: str, alpha: float, setting: Setting
) -> tuple[RuleOutcome, Floats]:
    """Return the rule of a kind that finds the fault in the fewest requests, and its times."""
    shapes = USUAL + HINDSIGHT if tuned_on == "hindsight" else USUAL
    tuned_for = compared.bad_hour if tuned_on == "bad_hour" else compared.steady
    tuning, choosing = (replace(setting, rollouts=min(setting.rollouts, most)) for most in (TUNING, CHOOSING))
    rules = [(rule, rule_times(rule, regressed, choosing)) for rule in tune(tuned_for, shapes, alpha, tuning)]
    rule, _ = min(rules, key=lambda each: (quantile(each[1], 0.5), -np.mean(np.isfinite(each[1]))))
    times = rule_times(rule, regressed, setting)
    outcome = RuleOutcome(
        tuned_on=tuned_on,
        interval_s=rule.interval_s,
        failures=rule.failures,
        threshold=rule.threshold,
        aborted=float(np.mean(np.isfinite(times))),
        median_requests=quantile(times, 0.5),
        aborted_when_both_get_worse=float(np.mean(np.isfinite(rule_times(rule, compared.bad_hour, choosing)))),
    )
    return outcome, times
