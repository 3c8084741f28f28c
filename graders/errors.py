"""Errors of grading. Arguments are strings only, since errors cross processes by pickle."""

from __future__ import annotations

from enum import StrEnum


class Fault(StrEnum):
    """The reason why a sample has no grade, by the names of OpenAI's flags."""

    FORMULA = "formula_parse_error"
    VARIABLE = "invalid_variable_error"
    SAMPLE = "sample_parse_error"  # the model's output is at fault, not the grader
    MODEL_ANSWER = "model_grader_parse_error"
    MODEL_REFUSAL = "model_grader_refusal_error"
    MODEL_SERVER = "model_grader_server_error"
    PYTHON = "python_grader_runtime_error"
    SANDBOX = "python_grader_server_error"
    UNRESPONSIVE = "unresponsive_reward_error"
    OTHER = "other_error"


class GradingError(Exception):
    """Base of every error of this package."""


class GradingFailed(GradingError):
    """A sample got no grade; `fault` has the reason, the message the details."""

    def __init__(self, fault: Fault, message: str) -> None:
        super().__init__(fault, message)
        self.fault = fault
        self.message = message

    def __str__(self) -> str:
        return self.message


class SandboxMissing(GradingError):
    """Nothing on this machine can shut Python graders in; the message has what would help."""


class TooManyRuns(GradingError):
    """More runs of graders wait than a server allows."""
