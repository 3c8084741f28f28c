"""Sentences about evidence for people. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gateway.rollouts.judge.evidence import GuardrailComparison
from registry.rollouts.guardrail_names import Guardrail

COUNTED: Final = {
    Guardrail.ERROR_RATE: "requests",
    Guardrail.TTFT_P95: "requests",
    Guardrail.TPOT_P95: "requests",
    Guardrail.LENGTH_FINISHES: "answers",
    Guardrail.EMPTY_ANSWERS: "answers",
    Guardrail.INVALID_JSON: "JSON answers",
    Guardrail.INVALID_TOOL_CALLS: "tool calls",
    Guardrail.FEEDBACK: "scores",
}

LEFT_OUT: Final = {
    "replica_busy": "found clients at their replica all the time",
    "cut_off": "were cut off as a client came",
    "budget_spent": "found the token budget spent",
    "copies_under_way": "found others under way",
    "load_unknown": "were for an engine that does not report its load",
    "canary_not_loaded": "were for a replica without the canary",
    "engine_full": "were refused by a full engine",
    "step_over": "came too late for their step",
}


def left_out(reasons: Mapping[str, int]) -> str:
    """Return the end of a sentence: why copies of a shadow step are missing, the most frequent reason first."""
    if not reasons:
        return ""
    parts = [
        f"{reasons[each]:,} {LEFT_OUT.get(each, each)}" for each in sorted(reasons, key=lambda each: -reasons[each])
    ]
    return f"; of the copies, {', '.join(parts)}"


def sentence(evidence: GuardrailComparison, *, is_lone: bool = False) -> str:
    """Return a sentence with both sides' values, how much worse the canary is, the bounds and the margin."""
    counted = COUNTED[evidence.guardrail]
    where = " (on replicas where stable answered nothing)" if is_lone else ""
    return (
        f"{evidence.guardrail} is {_value(evidence, evidence.canary_value)} in {evidence.canary_samples:,} canary "
        f"{counted}{where} against {_value(evidence, evidence.stable_value)} in {evidence.stable_samples:,} of stable: "
        f"worse by {_amount(evidence, evidence.difference)}, {_bounds(evidence)}, "
        f"margin {_amount(evidence, evidence.margin)}"
    )


def _bounds(evidence: GuardrailComparison) -> str:
    low = _amount(evidence, evidence.low)
    return f"at least {low}" if evidence.high is None else f"between {low} and {_amount(evidence, evidence.high)}"


def _value(evidence: GuardrailComparison, value: float | None) -> str:
    if value is None:
        return "unknown"
    return {"share": f"{value:.2%}", "score": f"{value:.3f}", "s": f"{value:.3g} s"}[evidence.unit]


def _amount(evidence: GuardrailComparison, amount: float | None) -> str:
    if amount is None:
        return "unknown"
    return {"share": f"{amount * 100:.2f} points", "score": f"{amount:.3f}", "s": f"{amount:.1%}"}[evidence.unit]
