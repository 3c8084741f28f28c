"""`POST /v1/feedback`: ratings of answers, joined to the revision that gave the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Annotated, Final, Literal

from fastapi import APIRouter
from pydantic import Field

from gateway.deps import CallerDep, Gateway, GatewayDep
from gateway.errors import InvalidRequest
from gateway.objects.evidence import FeedbackObject
from gateway.openai.types import Body
from registry.errors import NotFound
from registry.rollouts.feedback import Feedback, adapter_of

router = APIRouter()

LABELS: Final = {"good": 1.0, "bad": 0.0}


class Rating(Body):
    """Body of `POST /v1/feedback`: one of `score` and `label`."""

    completion_id: Annotated[str, Field(min_length=1, max_length=256)]
    score: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None
    label: Literal["good", "bad"] | None = None
    comment: Annotated[str, Field(max_length=4000)] = ""


@router.post("/v1/feedback")
async def give_feedback(body: Rating, gateway: GatewayDep, caller: CallerDep) -> FeedbackObject:
    """Store the rating in place of an earlier rating of the same answer; 404 if this answer cannot be rated."""
    rate = partial(gateway.registry.feedback.rate, body.completion_id, _score_of(body), body.comment, caller.tenant)
    feedback = await _rate(gateway, rate)
    if feedback.cell is not None:
        gateway.metrics.rollouts.rate(adapter_of(feedback.served_name), feedback.cell.side, feedback.score)
    return feedback_object(feedback)


def _score_of(body: Rating) -> float:
    if body.score is not None and body.label is None:
        return body.score
    if body.label is not None and body.score is None:
        return LABELS[body.label]
    raise InvalidRequest("give either score, from 0 to 1, or label, good or bad", param="score")


async def _rate(gateway: Gateway, rate: Callable[[], Feedback]) -> Feedback:
    """Store the rating; try again after each way in which a very recent answer reaches the registry.

    Such an answer is known only to its gateway until the gateway reports it to the registry.
    """
    try:
        return await gateway.ask(rate)
    except NotFound:
        await gateway.tally_reporter.flush()
    try:
        return await gateway.ask(rate)
    except NotFound:
        await asyncio.sleep(1.5 * gateway.settings.observe_flush_s)
    return await gateway.ask(rate)


def feedback_object(feedback: Feedback) -> FeedbackObject:
    """Return the JSON object of a rating."""
    cell = feedback.cell
    return FeedbackObject(
        completion_id=feedback.completion_id,
        tenant=feedback.tenant,
        revision=feedback.served_name,
        rollout=None if cell is None else cell.rollout_id,
        step=None if cell is None else cell.step,
        side=None if cell is None else cell.side,
        replica=feedback.replica,
        score=feedback.score,
        comment=feedback.comment,
        at=feedback.at,
    )
