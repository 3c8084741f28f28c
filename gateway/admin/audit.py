"""`/admin/audit`: the log of who did what."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Query

from gateway.deps import GatewayDep
from gateway.objects.lists import ObjectList
from gateway.objects.operations import AuditEntryObject
from gateway.openai.types import Whole

router = APIRouter(prefix="/admin/audit", tags=["operating"])


@router.get("")
async def list_audit(
    gateway: GatewayDep, after: Whole | None = None, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> ObjectList[AuditEntryObject]:
    """List audit entries, newest first; *after* is the id of the last entry of the page before."""
    found = await gateway.ask(gateway.registry.audit.list, limit=limit, after=after)
    return ObjectList(data=[AuditEntryObject.model_validate(asdict(entry)) for entry in found])
