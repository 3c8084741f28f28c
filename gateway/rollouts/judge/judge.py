"""The verdict on a rollout from the counts of gateways. Pure: the same numbers give the same verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import log
from typing import Any, Final

from gateway.rollouts.judge.evidence import Finding, GuardrailComparison, gather
from gateway.rollouts.judge.strata import pairs_of_steps, pairs_of_watch, samples
from gateway.rollouts.judge.wording import left_out, sentence
from registry.rollouts.guardrail_names import Guardrail
from registry.rollouts.guardrails import GuardrailPlan
from registry.rollouts.tally import Cell, Side, Tally, total

WATCH_FACTOR: Final = 2.0
"""Factor on margins during the watch, where the sides are also separated by time, which may change the load."""
DOUBT_SAMPLES: Final = 30
"""From this many samples, a canary that looks worse than the margin is not advanced, even without proof."""
DOUBT_EVIDENCE: Final = log(3.0)
"""With fewer samples a canary is not advanced while the evidence against it is as strong as six bad answers of six."""
SURELY_EXPECTED: Final = 10.0
"""A count that every answer adds to is missing if it is 0 where so many are expected: by chance with e^-10."""
FROM_EVERY_ANSWER: Final = (Guardrail.TTFT_P95, Guardrail.LENGTH_FINISHES, Guardrail.EMPTY_ANSWERS)


class Decision(StrEnum):
    """The action that a verdict asks for."""

    ADVANCE = "advance"
    HOLD = "hold"
    ABORT = "abort"


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutVerdict:
    """A decision with its reason in one word and one sentence, and the numbers of every judged guardrail."""

    decision: Decision
    reason: str
    """On abort the guardrail's name; else `no_violation`, `too_few_samples`, `missing_data`, `in_doubt`, `watching`."""
    message: str
    evidence: tuple[GuardrailComparison, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the verdict as it is stored and sent."""
        return {
            "decision": str(self.decision),
            "reason": self.reason,
            "message": self.message,
            "evidence": [each.as_json() for each in self.evidence],
        }


def judge(plan: GuardrailPlan, cells: Mapping[Cell, Tally], step: int) -> RolloutVerdict:
    """Judge a rollout that is at *step*, an index into its steps; cells of later steps are ignored.

    Abort when a guardrail is worse by more than its margin at the always-valid level, over all steps so far. Advance
    when both sides have `min_samples` requests in this step and nothing is in doubt. Else hold.
    """
    findings = gather(plan.margins, plan.alpha_each, pairs_of_steps(cells, step))
    evidence = tuple(finding.evidence for finding in findings)
    violated = _worst(findings)
    if violated is not None:
        return RolloutVerdict(
            decision=Decision.ABORT,
            reason=str(violated.evidence.guardrail),
            message=sentence(violated.evidence, is_lone=violated.is_lone),
            evidence=evidence,
        )
    reason, message = _obstacle(plan, cells, step, findings)
    decision = Decision.HOLD if reason else Decision.ADVANCE
    return RolloutVerdict(decision=decision, reason=reason or "no_violation", message=message, evidence=evidence)


def judge_watch(plan: GuardrailPlan, cells: Mapping[Cell, Tally], steps: int) -> RolloutVerdict:
    """Judge a promoted rollout of this many *steps*: hold, or abort, which means to roll back.

    No stable runs beside the new one any more, so requests of the watch are compared with stable's requests during the
    rollout on the same replica, with margins of twice the size. A change of load meanwhile looks like a fault of the
    revision.
    """
    margins = {each: margin * WATCH_FACTOR for each, margin in plan.margins.items()}
    findings = gather(margins, plan.alpha_each, pairs_of_watch(cells, steps))
    evidence = tuple(finding.evidence for finding in findings)
    violated = _worst(findings)
    if violated is not None:
        message = f"after the promotion, {sentence(violated.evidence, is_lone=violated.is_lone)}"
        reason = str(violated.evidence.guardrail)
        return RolloutVerdict(decision=Decision.ABORT, reason=reason, message=message, evidence=evidence)
    seen = _requests(_tallies(cells, Side.CANARY, steps))
    message = f"{seen:,} requests since the promotion, nothing proven worse than twice its margin"
    return RolloutVerdict(decision=Decision.HOLD, reason="watching", message=message, evidence=evidence)


def _worst(findings: Sequence[Finding]) -> Finding | None:
    violated = [finding for finding in findings if finding.evidence.is_violated]
    return max(violated, key=lambda finding: finding.log_evidence, default=None)


def _obstacle(
    plan: GuardrailPlan, cells: Mapping[Cell, Tally], step: int, findings: Sequence[Finding]
) -> tuple[str, str]:
    """Return why the step must not end yet, as one word and a sentence; the word is empty if it may."""
    canary, stable = _tallies(cells, Side.CANARY, step), _tallies(cells, Side.STABLE, step)
    ours, theirs = _requests(canary), _requests(stable)
    counts = f"{ours:,} canary and {theirs:,} stable requests in this step"
    if min(ours, theirs) < plan.min_samples:
        missing = left_out(total(canary).copies_left_out)
        return "too_few_samples", f"{counts}, {plan.min_samples:,} of each are needed{missing}"
    for guardrail in FROM_EVERY_ANSWER:
        # The canary's requests would have so many samples if they were like stable's.
        expected = sum(samples(guardrail, tally) for tally in stable) * ours / theirs
        is_missing = expected >= SURELY_EXPECTED and not any(samples(guardrail, tally) for tally in canary)
        if is_missing and guardrail in plan.margins:
            return "missing_data", f"{counts}, but the canary's have no {guardrail}"
    worse = [finding for finding in findings if _looks_worse(finding.evidence)]
    for finding in worse:
        if finding.evidence.canary_samples >= DOUBT_SAMPLES or finding.log_evidence >= DOUBT_EVIDENCE:
            return "in_doubt", f"not proven, but {sentence(finding.evidence)}"
    if worse:
        return "", f"{counts}, too few to count against the canary, although {sentence(worse[0].evidence)}"
    return "", f"{counts}, nothing looks worse than its margin"


def _looks_worse(evidence: GuardrailComparison) -> bool:
    return evidence.difference is not None and evidence.difference > evidence.margin


def _tallies(cells: Mapping[Cell, Tally], side: Side, step: int) -> list[Tally]:
    return [tally for cell, tally in cells.items() if cell.side is side and cell.step == step]


def _requests(tallies: Sequence[Tally]) -> int:
    return sum(tally.requests for tally in tallies)
