"""The names of guardrails, as plans, verdicts and the command line have them."""

from __future__ import annotations

from enum import StrEnum


class Guardrail(StrEnum):
    """A quantity in which a canary may be worse than stable."""

    ERROR_RATE = "error_rate"
    TTFT_P95 = "ttft_p95"
    TPOT_P95 = "tpot_p95"
    LENGTH_FINISHES = "length_finishes"
    EMPTY_ANSWERS = "empty_answers"
    INVALID_JSON = "invalid_json"
    INVALID_TOOL_CALLS = "invalid_tool_calls"
    FEEDBACK = "feedback"
