"""Evidence on each guardrail: how much worse the canary is, and between which bounds. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isinf, log
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gateway.rollouts.judge.bounds import Sums, means, shares
from gateway.rollouts.judge.quantiles import SlowAnswers, buckets_of, margin_of, percentile
from gateway.rollouts.judge.strata import Pair, Pairs, histograms_of, pairs_by_cache, sums_of
from registry.rollouts.guardrail_names import Guardrail
from registry.rollouts.guardrails import RELATIVE
from registry.rollouts.tally import BUCKET_GROWTH

LONE_PART: Final = 0.1
"""The part of a guardrail's alpha for the canary's requests on replicas where stable has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardrailComparison:
    """The numbers of one guardrail; `difference`, `low`, `high` and `margin` are how much *worse* the canary is.

    With unit `share` and `score` they are differences of the values; with unit `s` they are parts of stable's value
    (0.1: a tenth longer). `low` and `high` each hold at every look with the guardrail's part of alpha. A number
    that is not known yet is None.
    """

    guardrail: Guardrail
    canary_samples: int
    stable_samples: int
    canary_value: float | None
    stable_value: float | None
    """The value that stable would have with the canary's mix of steps and replicas."""
    difference: float | None
    low: float | None
    high: float | None
    margin: float
    unit: str
    is_violated: bool
    """The canary is worse by more than the margin."""
    is_cleared: bool
    """The canary is shown not to be worse by more than the margin."""

    def as_json(self) -> dict[str, Any]:
        """Return all fields for the registry and the API."""
        return {**asdict(self), "guardrail": str(self.guardrail)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Evidence with the further facts that a verdict needs."""

    evidence: GuardrailComparison
    log_evidence: float
    """Log evidence that the margin is exceeded, comparable between guardrails."""
    is_lone: bool
    """Whether the evidence is about replicas on which stable answered nothing."""


def gather(margins: Mapping[Guardrail, float], alpha_each: float, pairs: Pairs) -> list[Finding]:
    """Return one finding for each guardrail: of its comparisons the worst one, or else that of most requests."""
    by_cache = pairs_by_cache(pairs)
    findings = []
    for guardrail, margin in margins.items():
        groups = by_cache if guardrail in RELATIVE else (pairs,)
        alpha = alpha_of_group(guardrail, alpha_each)
        shared = [_compare(guardrail, margin, alpha * (1 - LONE_PART), group.shared) for group in groups]
        lone = [
            _compare(guardrail, margin, alpha * LONE_PART, group.lone, is_lone=True) for group in groups if group.lone
        ]
        findings.append(_telling(shared, lone))
    return findings


def alpha_of_group(guardrail: Guardrail, alpha_each: float) -> float:
    """Return the part of a guardrail's alpha for prompts in caches, or for those that were computed.

    The split is fixed beforehand: whether such requests come, or lone ones, must not change the level.
    """
    return alpha_each / 2 if guardrail in RELATIVE else alpha_each


def _telling(shared: Sequence[Finding], lone: Sequence[Finding]) -> Finding:
    """Return the finding that is reported: a violation, before all others one on replicas that both sides use."""
    for findings in (shared, lone):
        if violated := [finding for finding in findings if finding.evidence.is_violated]:
            return max(violated, key=lambda finding: finding.log_evidence)
    known = [finding for finding in shared if finding.evidence.difference is not None]
    return max(known or lone or shared, key=lambda finding: finding.evidence.canary_samples)


def _compare(
    guardrail: Guardrail, margin: float, alpha: float, pairs: Sequence[Pair], *, is_lone: bool = False
) -> Finding:
    compare = _compare_latency if guardrail in RELATIVE else _compare_mean
    numbers = compare(guardrail, margin, alpha, pairs)
    evidence = GuardrailComparison(
        guardrail=guardrail,
        canary_samples=numbers.canary_samples,
        stable_samples=numbers.stable_samples,
        canary_value=numbers.canary_value,
        stable_value=numbers.stable_value,
        difference=numbers.difference,
        low=numbers.low,
        high=numbers.high,
        margin=margin,
        unit=numbers.unit,
        is_violated=numbers.log_evidence >= -log(alpha),
        is_cleared=numbers.high is not None and numbers.high < margin,
    )
    return Finding(evidence=evidence, log_evidence=numbers.log_evidence, is_lone=is_lone)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Numbers:
    canary_samples: int
    stable_samples: int
    unit: str
    canary_value: float | None = None
    stable_value: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    log_evidence: float = 0.0


def _compare_mean(guardrail: Guardrail, margin: float, alpha: float, pairs: Sequence[Pair]) -> _Numbers:
    is_score = guardrail is Guardrail.FEEDBACK
    unit = "score" if is_score else "share"
    canary = sums_of((pair.canary for pair in pairs), guardrail)
    stable = sums_of((pair.stable for pair in pairs), guardrail)
    both = (canary.count > 0) & (stable.count > 0)
    canary, stable = _only(canary, both), _only(stable, both)
    canary_samples, stable_samples = int(canary.count.sum()), int(stable.count.sum())
    if not canary_samples:
        return _Numbers(canary_samples=0, stable_samples=stable_samples, unit=unit)
    ours = float(canary.total.sum()) / canary_samples
    # stable's means weighted by the canary's counts, so that a different mix of replicas is no difference
    theirs = float(np.sum(canary.count * stable.total / stable.count)) / canary_samples
    build = means if is_score else shares
    more, less = build(canary, stable), build(stable, canary)
    return _Numbers(
        canary_samples=canary_samples,
        stable_samples=stable_samples,
        unit=unit,
        canary_value=1 - ours if is_score else ours,
        stable_value=1 - theirs if is_score else theirs,
        difference=ours - theirs,
        low=max(float(more.lower_bound(alpha)), -1.0),
        high=min(-float(less.lower_bound(alpha)), 1.0),
        log_evidence=float(more.log_evidence(margin)),
    )


def _compare_latency(guardrail: Guardrail, margin: float, alpha: float, pairs: Sequence[Pair]) -> _Numbers:
    canary, stable, first = histograms_of(pairs, guardrail)
    both = (canary.sum(axis=0) > 0) & (stable.sum(axis=0) > 0)
    canary, stable = canary[:, both], stable[:, both]
    canary_samples, stable_samples = int(canary.sum()), int(stable.sum())
    if not canary_samples:
        return _Numbers(canary_samples=0, stable_samples=stable_samples, unit="s")
    ours = percentile(canary.sum(axis=1))
    # Stable's histograms weighted by the canary's counts, as in `_compare_mean`.
    theirs = percentile((stable * (canary.sum(axis=0) / stable.sum(axis=0))).sum(axis=1))
    slow = SlowAnswers.of(canary, stable)
    high = slow.bound(alpha, lower=False)
    return _Numbers(
        canary_samples=canary_samples,
        stable_samples=stable_samples,
        unit="s",
        canary_value=_seconds(first + ours),
        stable_value=_seconds(first + theirs),
        difference=margin_of(ours - theirs),
        low=margin_of(slow.bound(alpha)),
        high=None if isinf(high) else margin_of(high),
        log_evidence=float(slow.log_evidence(buckets_of(margin))),
    )


def _only(sums: Sums, chosen: NDArray[np.bool_]) -> Sums:
    return Sums(count=sums.count[chosen], total=sums.total[chosen], squares=sums.squares[chosen])


def _seconds(position: float) -> float:
    return float(BUCKET_GROWTH**position)
