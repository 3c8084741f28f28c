"""Evaluations, their scores and answers, and comparisons of two of them."""

from __future__ import annotations

from typing import Any, Literal

from gateway.objects.lists import ApiObject, ListedObject
from registry.evaluations.evaluation_state import EvaluationState


class ScoreObject(ApiObject):
    """The score of some rows: the weighted mean, and the share that passed, each with its interval."""

    rows: int
    score: float
    low: float
    high: float
    method: str
    """`wilson` for rows that are right or wrong, else `bootstrap`."""
    passed: int
    pass_rate: float
    pass_low: float
    pass_high: float


class ScoresObject(ApiObject):
    """The score of all rows, and of those with each tag."""

    overall: ScoreObject
    tags: dict[str, ScoreObject]


class PinnedModelObject(ApiObject):
    """The weights that were asked."""

    served_name: str
    digest: str
    base: str
    base_digest: str
    adapter: str | None


class EvaluationError(ApiObject):
    """Why an evaluation failed."""

    code: str
    """`rows_unanswered`, `model_changed`, `key_revoked`, `suite_gone`, `timed_out` or `tool_failed`."""
    message: str


class ComparisonObject(ApiObject):
    """How much higher the first evaluation scores than the second, on the same rows."""

    object: Literal["evaluation_comparison"] = "evaluation_comparison"
    first: str
    second: str
    first_model: str
    second_model: str
    first_score: float
    second_score: float
    suite: str
    suite_digest: str
    rows: int
    difference: float
    low: float
    high: float
    lower_bound: float
    """The one-sided bound: the difference is at least this with 95 % confidence."""
    p_scores: float
    """The p-value of the scores, by a paired permutation test."""
    p_passed: float
    """The p-value of passed and failed, by McNemar's exact test."""
    only_first: list[str]
    """Ids of the rows that only the first passed."""
    only_second: list[str]


class EvaluationObject(ListedObject):
    """A suite asked of one model."""

    object: Literal["evaluation"] = "evaluation"
    state: EvaluationState
    tool: str
    """`lorry` where gateways ask the rows; else the outside tool that reported the scores."""
    asked_name: str
    model: PinnedModelObject
    judges: dict[str, PinnedModelObject]
    suite: str
    suite_digest: str
    total: int
    done: int
    scores: ScoresObject | None
    """None unless every row has an answer."""
    error: EvaluationError | None
    detail: dict[str, Any]
    """The tasks and options of an outside tool, and the metrics that it reported."""
    owner: str
    rollout: str | None
    """The rollout whose gate asked for it."""
    side: str | None
    gateway: str | None
    attempt: int
    waits_for: str | None
    created_at: float
    started_at: float | None
    finished_at: float | None
    expires_at: float


class EvaluationStory(EvaluationObject):
    """An evaluation, compared with the stable revision's where it is of another revision of the adapter."""

    beside_stable: ComparisonObject | None = None
    """None for the stable itself, for base models, and while the stable has no completed evaluation of the suite."""


class AnswerObject(ApiObject):
    """The answer to one row."""

    row: int
    row_id: str
    prompt: str
    answer: str
    target: str
    score: float
    passed: bool
    why: str
    weight: float
    tags: list[str]
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    seconds: float


class DeletedEvaluation(ApiObject):
    """The answer when an evaluation is removed."""

    object: Literal["evaluation"] = "evaluation"
    id: str
    deleted: Literal[True] = True


class SuiteObject(ApiObject):
    """A suite that evaluations and gates may name."""

    object: Literal["evaluation_suite"] = "evaluation_suite"
    name: str
    """`builtin:NAME` for those that ship with Lorry."""
    digest: str
    rows: int
    description: str
