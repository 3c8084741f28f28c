"""`/admin/feedback` and `/admin/adapters/{name}/feedback`: the ratings of answers, by revision and in sum."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from gateway.deps import GatewayDep
from gateway.objects.evidence import FeedbackObject, RatingSumObject
from gateway.objects.lists import ObjectList
from gateway.openai.feedback import feedback_object
from registry.rollouts.feedback import RatingSum

router = APIRouter(prefix="/admin", tags=["feedback"])

Limit = Annotated[int, Query(ge=1, le=1000)]


@router.get("/adapters/{name}/feedback")
async def list_feedback(name: str, gateway: GatewayDep, limit: Limit = 100) -> ObjectList[FeedbackObject]:
    """List the ratings of all revisions of an adapter with their comments, newest first."""
    found = await gateway.ask(gateway.registry.feedback.list, name, limit)
    return ObjectList(data=[feedback_object(feedback) for feedback in found])


@router.get("/feedback")
async def list_rating_sums(gateway: GatewayDep, model: str | None = None) -> ObjectList[RatingSumObject]:
    """List the sums of ratings by revision and base model; with *model* those of one adapter or base model."""
    found = await gateway.ask(gateway.registry.feedback.sums, model)
    return ObjectList(data=[_sum_object(each) for each in found])


@router.get("/feedback/{revision:path}")
async def list_feedback_of_revision(
    revision: str, gateway: GatewayDep, limit: Limit = 100
) -> ObjectList[FeedbackObject]:
    """List the ratings of one revision (`support@2`) or base model with their comments, newest first."""
    found = await gateway.ask(gateway.registry.feedback.of_served_name, revision, limit)
    return ObjectList(data=[feedback_object(feedback) for feedback in found])


def _sum_object(each: RatingSum) -> RatingSumObject:
    return RatingSumObject(
        revision=each.served_name,
        ratings=each.ratings,
        good=each.good,
        bad=each.ratings - each.good,
        mean=each.mean,
        last_at=each.last_at,
    )
