"""`POST /v1/feedback`: ratings of answers, joined to the revision that gave the answer."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final, Literal

from fastapi import APIRouter
from pydantic import Field

from gateway.deps import Gateway, GatewayDep
from gateway.errors import InvalidRequest
from gateway.objects.evidence import FeedbackObject
from gateway.openai.types import Body
from registry.errors import NotFound
from registry.rollouts.feedback import Feedback

router = APIRouter()

LABELS: Final = {"good": 1.0, "bad": 0.0}


class Rating(Body):
    """Body of `POST /v1/feedback`: one of `score` and `label`."""

    completion_id: Annotated[str, Field(min_length=1, max_length=256)]
    score: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None
    label: Literal["good", "bad"] | None = None
    comment: Annotated[str, Field(max_length=4000)] = ""


@router.post("/v1/feedback")
async def give_feedback(body: Rating, gateway: GatewayDep) -> FeedbackObject:
    """Store the rating in place of an earlier rating of the same answer; 404 if this answer cannot be rated."""
    feedback = await _rate(gateway, body.completion_id, _score_of(body), body.comment)
    gateway.metrics.rollouts.rate(feedback.served_name.rpartition("@")[0], feedback.cell.side, feedback.score)
    return feedback_object(feedback)


def _score_of(body: Rating) -> float:
    if body.score is not None and body.label is None:
        return body.score
    if body.label is not None and body.score is None:
        return LABELS[body.label]
    raise InvalidRequest("give either score, from 0 to 1, or label, good or bad", param="score")


async def _rate(gateway: Gateway, completion_id: str, score: float, comment: str) -> Feedback:
    """Store the rating; try again after each way in which a very recent answer reaches the registry.

    Such an answer is known only to its gateway until the gateway reports it to the registry.
    """
    rate = gateway.registry.feedback.rate
    try:
        return await gateway.ask(rate, completion_id, score, comment)
    except NotFound:
        await gateway.tally_reporter.flush()
    try:
        return await gateway.ask(rate, completion_id, score, comment)
    except NotFound:
        await asyncio.sleep(1.5 * gateway.settings.observe_flush_s)
    return await gateway.ask(rate, completion_id, score, comment)


def feedback_object(feedback: Feedback) -> FeedbackObject:
    """Return the JSON object of a rating."""
    return FeedbackObject(
        completion_id=feedback.completion_id,
        revision=feedback.served_name,
        rollout=feedback.cell.rollout_id,
        step=feedback.cell.step,
        side=feedback.cell.side,
        replica=feedback.cell.replica,
        score=feedback.score,
        comment=feedback.comment,
        at=feedback.at,
    )
