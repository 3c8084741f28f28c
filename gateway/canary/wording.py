"""Evidence as a sentence for people. Pure."""

from __future__ import annotations

from typing import Final

from gateway.canary.evidence import Evidence
from registry.guardrails import Guardrail

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


def sentence(evidence: Evidence, *, is_lone: bool = False) -> str:
    """Both sides' values, by how much the canary is worse, its bounds and the margin."""
    counted = COUNTED[evidence.guardrail]
    where = " (on replicas where stable answered nothing)" if is_lone else ""
    return (
        f"{evidence.guardrail} is {_value(evidence, evidence.canary_value)} in {evidence.canary_samples:,} canary "
        f"{counted}{where} against {_value(evidence, evidence.stable_value)} in {evidence.stable_samples:,} of stable: "
        f"worse by {_amount(evidence, evidence.difference)}, between {_amount(evidence, evidence.low)} and "
        f"{_amount(evidence, evidence.high)}, margin {_amount(evidence, evidence.margin)}"
    )


def _value(evidence: Evidence, value: float | None) -> str:
    if value is None:
        return "unknown"
    return {"share": f"{value:.2%}", "score": f"{value:.3f}", "s": f"{value:.3g} s"}[evidence.unit]


def _amount(evidence: Evidence, amount: float | None) -> str:
    if amount is None:
        return "unknown"
    return {"share": f"{amount * 100:.2f} points", "score": f"{amount:.3f}", "s": f"{amount:.1%}"}[evidence.unit]
