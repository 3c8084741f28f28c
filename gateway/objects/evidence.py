"""The evidence on which rollouts are judged: counted requests, ratings of answers, and conversations held on a side."""

from __future__ import annotations

from typing import Literal

from gateway.objects.lists import ApiObject
from registry.rollouts.tally import Side


class ObservedCell(ApiObject):
    """Sums over the requests of one step, side and replica of a rollout; errors of clients are left out."""

    step: int
    side: Side
    replica: str
    requests: int
    errors: dict[str, int]
    """Kind of error -> how often."""
    answers: int
    length_finishes: int
    empty_answers: int
    json_asked: int
    json_invalid: int
    tool_calls: int
    tool_calls_invalid: int
    output_tokens: int
    feedbacks: int
    feedback_sum: float
    feedback_square_sum: float
    comparisons: int
    win_sum: float
    win_square_sum: float
    copies_left_out: dict[str, int]
    """Why copies were not made or not finished -> how many."""
    failures: int
    """Requests that failed in a way that counts against the revision."""
    ttft_p50_s: float | None
    ttft_p95_s: float | None
    tpot_p50_s: float | None
    tpot_p95_s: float | None
    ttft_cached_p50_s: float | None
    """Of requests that found at least half of their prompt in the engine's cache."""
    ttft_cached_p95_s: float | None
    tpot_cached_p50_s: float | None
    tpot_cached_p95_s: float | None
    win_rate: float | None
    """Share of the comparisons that the canary won; None without comparisons."""


class FeedbackObject(ApiObject):
    """A rating of one answer, with the revision that gave the answer."""

    object: Literal["feedback"] = "feedback"
    completion_id: str
    tenant: str
    """Who got the answer and rated it."""
    revision: str
    """The revision, or the base model."""
    rollout: str | None
    """The rollout that the answer is evidence for; None outside of one, then also step and side."""
    step: int | None
    side: Side | None
    replica: str
    score: float
    """From 0, bad, to 1, good."""
    comment: str
    at: float


class RatingSumObject(ApiObject):
    """The ratings of one revision or base model."""

    object: Literal["rating_sum"] = "rating_sum"
    revision: str
    ratings: int
    good: int
    """Ratings from 0.5 on."""
    bad: int
    mean: float
    last_at: float


class ForcedSideObject(ApiObject):
    """A sticky key whose requests go to one side of every rollout of the adapter."""

    object: Literal["forced_side"] = "forced_side"
    adapter: str
    sticky_key: str
    side: Side
    actor: str
    created_at: float


class ReleasedSide(ApiObject):
    """The answer when a sticky key is released."""

    object: Literal["forced_side"] = "forced_side"
    sticky_key: str
    deleted: Literal[True] = True
