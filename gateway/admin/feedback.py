"""`/admin/adapters/{name}/feedback`: what people said of an adapter's answers."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from gateway.deps import GatewayDep
from gateway.openai.feedback import feedback_object

router = APIRouter(prefix="/admin/adapters")


@router.get("/{name}/feedback")
async def list_feedback(
    name: str, gateway: GatewayDep, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> dict[str, Any]:
    """Ratings with their comments, newest first."""
    found = await gateway.ask(gateway.registry.feedback.list, name, limit)
    return {"object": "list", "data": [feedback_object(feedback) for feedback in found]}
