"""`/admin/audit`: who did what."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query

from gateway.deps import GatewayDep

router = APIRouter(prefix="/admin/audit")


@router.get("")
async def list_audit(
    gateway: GatewayDep, after: int | None = None, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> dict[str, Any]:
    """Audit entries, newest first; *after* is the id of the last one seen."""
    found = await gateway.ask(gateway.registry.audit.list, limit=limit, after=after)
    return {"object": "list", "data": [asdict(entry) for entry in found]}
