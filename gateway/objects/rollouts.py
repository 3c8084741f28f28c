"""A rollout with its moves, and the verdict of the judge that moves it."""

from __future__ import annotations

from typing import Literal

from gateway.objects.evaluating.score_interval import ScoreInterval
from gateway.objects.lists import ApiObject
from registry.evaluations.evaluation_state import EvaluationState
from registry.rollouts.guardrail_names import Guardrail
from registry.rollouts.rollout_state import RolloutState


class GuardrailEvidence(ApiObject):
    """The numbers of one guardrail. `difference`, `low`, `high` and `margin` measure how much worse the canary is.

    With unit `share` and `score` they are differences of the values; with unit `s` they are parts of stable's value
    (0.1: a tenth longer). None stands for a number that is not known yet.
    """

    guardrail: Guardrail
    canary_samples: int
    stable_samples: int
    canary_value: float | None
    stable_value: float | None
    difference: float | None
    low: float | None
    high: float | None
    margin: float
    unit: Literal["share", "score", "s"]
    is_violated: bool
    is_cleared: bool


class ComparedAnswers(ApiObject):
    """How a judge model decided between both answers to copied requests."""

    comparisons: int
    win_rate: float
    """Share of the comparisons that the canary won."""


class MeanAnswerTokens(ApiObject):
    """Mean number of tokens of an answer, of each side."""

    canary: float
    stable: float


class StepTraffic(ApiObject):
    """How many requests the step has had, and how fast they come: means of about the last minute."""

    canary_requests: int
    stable_requests: int
    needed: int
    """Requests that each side must have had."""
    canary_per_min: float
    stable_per_min: float
    measured_s: float
    """How long the rates have been measured."""
    last_request_at: float | None
    """When the latest requests were counted; None where there were none since the measuring began."""
    at: float


class GateSide(ApiObject):
    """The evaluation of one side of a rollout by its gate; numbers are None unless it is completed."""

    evaluation: str
    model: str
    state: EvaluationState
    score: float | None
    low: float | None
    high: float | None
    method: str | None
    passed: int | None
    rows: int | None


class GateDifference(ApiObject):
    """How much higher the canary scores than the stable, row by row; see `evaluation.statistics.PairedDifference`."""

    difference: float
    interval: ScoreInterval
    lower_bound: float
    p_scores: float
    p_passed: float
    only_first: int
    only_second: int


class GateResult(ApiObject):
    """The decision of a rollout's gate, with its numbers."""

    suite: str
    suite_digest: str | None
    min: float | None
    not_worse_than_stable_by: float | None
    canary: GateSide | None
    stable: GateSide | None
    difference: GateDifference | None
    decision: Literal["advance", "abort"]
    reason: str
    message: str


class GateObject(ApiObject):
    """The gate in a plan."""

    suite: str
    min: float | None
    not_worse_than_stable_by: float | None
    timeout_s: float
    digest: str | None


class VerdictObject(ApiObject):
    """The judge's decision and reason, with the numbers of every guardrail."""

    decision: Literal["advance", "hold", "abort"]
    reason: str
    message: str
    evidence: list[GuardrailEvidence]
    step: int
    """Index of the step that was judged; the number of steps stands for the watch after the promotion."""
    wins: ComparedAnswers | None = None
    lengths: MeanAnswerTokens | None = None
    traffic: StepTraffic | None = None
    """None for the watch after a promotion, which waits for nothing."""
    gate: GateResult | None = None
    """The numbers of a gate's decision, which has no guardrails."""


class GuardrailMargins(ApiObject):
    """How much worse than stable the canary may be, by guardrail; None leaves a guardrail unjudged."""

    error_rate: float | None
    ttft_p95: float | None
    tpot_p95: float | None
    length_finishes: float | None
    empty_answers: float | None
    invalid_json: float | None
    invalid_tool_calls: float | None
    feedback: float | None
    min_samples: int
    alpha: float


class RolloutObject(ApiObject):
    """An attempt to make a revision stable. `canary` and `stable` are served names."""

    id: str
    adapter: str
    canary: str
    stable: str | None
    """The stable revision when the rollout started; None where there was none."""
    state: RolloutState
    steps: list[int | str]
    """Percents of the conversations, or `shadow:` and a percent of copied requests."""
    every_s: float | None
    guardrails: GuardrailMargins | None
    """None: the rollout moves by time or by hand, not by evidence."""
    shadow_judge: str | None
    gate: GateObject | None = None
    gate_result: GateResult | None = None
    """The decision of the gate; None before, and without a gate."""
    step: int
    """Index of the current step."""
    canary_weight: int
    shadow_percent: int
    reason: str
    message: str
    actor: str
    created_at: float
    step_since: float
    finished_at: float | None
    judged_at: float | None
    evidence: VerdictObject | None
    """The latest verdict of the judge."""


class RolloutMove(ApiObject):
    """A recorded move of a rollout."""

    at: float
    state: RolloutState
    step: int
    reason: str
    message: str
    actor: str
    evidence: VerdictObject | None
    """The latest verdict when the rollout moved."""


class RolloutStory(RolloutObject):
    """A rollout with all its moves, oldest first."""

    events: list[RolloutMove]
    obstacle: str | None = None
    """Why no replica will load the canary of a pending rollout, and what to do; None where one may."""
