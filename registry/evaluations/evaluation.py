"""An evaluation: a suite asked of one model that never changes. Pure: no database, no clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from registry.evaluations.evaluation_state import EvaluationState

LORRY: Final = "lorry"
"""`tool` of an evaluation that gateways run; others are run by a client with an outside tool."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedModel:
    """A model by a name that always means the same weights."""

    served_name: str
    """`support@7`, the name of a base model or checkpoint, or that of a step of a job."""
    digest: str
    """The digest of its weights: of the artifact for a revision, else of the base model."""
    base: str
    base_digest: str
    adapter: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the model as `pinned_from` reads it."""
        return {name: getattr(self, name) for name in ("served_name", "digest", "base", "base_digest", "adapter")}


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationDraft:
    """An evaluation as it is asked for."""

    asked_name: str
    """The name that was asked for, which may be an adapter's."""
    model: PinnedModel
    judges: Mapping[str, PinnedModel]
    """Name in the suite -> the model that it means."""
    suite_name: str
    suite_digest: str
    total: int
    owner: str
    tenant: str
    key_id: str
    timeout_s: float
    tool: str = LORRY
    concurrency: int = 4
    rollout_id: str | None = None
    """The rollout whose gate asks for it."""
    side: str | None = None
    """`canary` or `stable`, of that rollout."""
    detail: Mapping[str, Any] = field(default_factory=dict)
    """The tasks and options of an outside tool."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """An evaluation as it is stored."""

    id: str
    state: EvaluationState
    tool: str
    asked_name: str
    model: PinnedModel
    judges: Mapping[str, PinnedModel]
    suite_name: str
    suite_digest: str
    total: int
    done: int
    """Rows that have an answer."""
    scores: Mapping[str, Any] | None
    """`evaluation.scores.Scores` as JSON; None unless the evaluation is completed."""
    error: Mapping[str, Any] | None
    """`code` and `message` of a failed one."""
    detail: Mapping[str, Any]
    concurrency: int
    owner: str
    tenant: str
    key_id: str
    rollout_id: str | None
    side: str | None
    holder: str | None
    attempt: int
    beat: int
    note: str
    """Why it does not go on at the moment; empty while it does."""
    timeout_s: float
    created_at: float
    started_at: float | None
    finished_at: float | None
    expires_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationHold:
    """A gateway's right to move one evaluation, valid while its attempt is the latest."""

    evaluation_id: str
    attempt: int
    holder: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationAnswer:
    """The answer to one row, with its score."""

    row: int
    """Number of the row in its suite, from 1."""
    row_id: str
    answer: str
    score: float
    has_passed: bool
    why: str = ""
    weight: float = 1.0
    tags: Sequence[str] = ()
    prompt: str = ""
    """The prompt of the row."""
    target: str = ""
    """The right answer, where an outside tool reports it."""
    finish_reason: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
