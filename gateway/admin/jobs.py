"""`/admin/jobs`: what the trainer has to do, in the trainer's own words."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from gateway.deps import GatewayDep
from gateway.openai.fine_tuning import job_object

router = APIRouter(prefix="/admin/jobs")


@router.get("")
async def list_jobs(
    gateway: GatewayDep, after: str | None = None, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> dict[str, Any]:
    """Jobs, newest first, with the spec that the trainer runs."""
    found = await gateway.ask(gateway.registry.jobs.list, after=after, limit=limit)
    organisation = gateway.registry.organisation
    data = [job_object(job, organisation) | {"spec": job.spec.model_dump(mode="json")} for job in found]
    return {"object": "list", "data": data}
