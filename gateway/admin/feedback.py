"""`/admin/adapters/{name}/feedback`: the ratings of an adapter's answers."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from gateway.deps import GatewayDep
from gateway.objects.evidence import FeedbackObject
from gateway.objects.lists import ObjectList
from gateway.openai.feedback import feedback_object

router = APIRouter(prefix="/admin/adapters")


@router.get("/{name}/feedback")
async def list_feedback(
    name: str, gateway: GatewayDep, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> ObjectList[FeedbackObject]:
    """List ratings with their comments, newest first."""
    found = await gateway.ask(gateway.registry.feedback.list, name, limit)
    return ObjectList(data=[feedback_object(feedback) for feedback in found])
