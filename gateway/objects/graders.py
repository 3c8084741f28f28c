"""OpenAI's answers of the endpoints that validate and run a grader."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.objects.lists import ApiObject
from graders.errors import Fault
from graders.grade import Grade
from registry.contracts.graders.grader_spec import GraderSpec


class GraderErrors(ApiObject):
    """The kinds of error; all are false after a grade."""

    formula_parse_error: bool = False
    invalid_variable_error: bool = False
    model_grader_parse_error: bool = False
    model_grader_refusal_error: bool = False
    model_grader_server_error: bool = False
    model_grader_server_error_details: str | None = None
    other_error: bool = False
    other_error_details: str | None = None
    """A field of Lorry's: the message of every fault that has no field of its own for it."""
    python_grader_runtime_error: bool = False
    python_grader_runtime_error_details: str | None = None
    python_grader_server_error: bool = False
    python_grader_server_error_type: str | None = None
    sample_parse_error: bool = False
    truncated_observation_error: bool = False
    unresponsive_reward_error: bool = False


class GraderRunMetadata(ApiObject):
    """How a grade came about."""

    name: str
    type: str
    errors: GraderErrors
    execution_time: float
    """Seconds."""
    sampled_model_name: str | None
    scores: Mapping[str, float]
    token_usage: int | None


class GraderRun(ApiObject):
    """The answer of a run."""

    reward: float
    metadata: GraderRunMetadata
    sub_rewards: Mapping[str, float]
    model_grader_token_usage_per_model: Mapping[str, Mapping[str, int]]


class ValidGrader(ApiObject):
    """The answer of a validation: the grader as it was given."""

    grader: Mapping[str, Any]


_DETAILS = {
    Fault.MODEL_SERVER: "model_grader_server_error_details",
    Fault.PYTHON: "python_grader_runtime_error_details",
    Fault.SANDBOX: "python_grader_server_error_type",
}
"""Fault -> the field of OpenAI's that takes its message."""


def grader_run(grader: GraderSpec, grade: Grade) -> GraderRun:
    """Return the answer for *grade*."""
    details = {_DETAILS[fault]: text for fault, text in grade.faults.items() if fault in _DETAILS}
    others = [text for fault, text in grade.faults.items() if fault not in _DETAILS]
    flags = {str(fault): True for fault in grade.faults}
    errors = GraderErrors(**flags, **details, other_error_details="; ".join(others) or None)  # type: ignore[arg-type]
    used = [count.get("total_tokens", 0) for count in grade.tokens.values()]
    return GraderRun(
        reward=grade.reward,
        metadata=GraderRunMetadata(
            name=grader.name,
            type=grader.type,
            errors=errors,
            execution_time=grade.seconds,
            sampled_model_name=next(iter(grade.tokens), None),
            scores=grade.sub_rewards,
            token_usage=sum(used) if used else None,
        ),
        sub_rewards=grade.sub_rewards,
        model_grader_token_usage_per_model=grade.tokens,
    )
