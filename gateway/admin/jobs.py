"""`/admin/jobs`: jobs of every kind, the publication of folders among them, with their specs."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from gateway.deps import ActorDep, Gateway, GatewayDep
from gateway.openai.fine_tuning import events_page, job_object, job_state
from registry.jobs.job import Job

router = APIRouter(prefix="/admin/jobs")

Limit = Annotated[int, Query(ge=1, le=1000)]


@router.get("")
async def list_jobs(gateway: GatewayDep, after: str | None = None, limit: Limit = 100) -> dict[str, Any]:
    """Jobs, newest first, with the spec that the trainer runs."""
    found = await gateway.ask(gateway.registry.jobs.list, after=after, limit=limit)
    return {"object": "list", "data": [any_job(job, gateway.registry.organisation) for job in found]}


@router.get("/{job_id}")
async def show_job(job_id: str, gateway: GatewayDep) -> dict[str, Any]:
    """One job of any kind."""
    return await _shown(gateway, job_id)


@router.get("/{job_id}/events")
async def list_events(job_id: str, gateway: GatewayDep, after: str | None = None, limit: Limit = 20) -> dict[str, Any]:
    """The job's events, newest first."""
    return await events_page(gateway, job_id, after, limit)


@router.post("/{job_id}/cancel")
async def cancel_job(job_id: str, gateway: GatewayDep, actor: ActorDep) -> dict[str, Any]:
    """Cancel a job of any kind."""
    await gateway.ask(gateway.registry.jobs.request_cancel, job_id, actor)
    return await _shown(gateway, job_id)


@router.post("/{job_id}/pause")
async def pause_job(job_id: str, gateway: GatewayDep) -> dict[str, Any]:
    """Pause it; a publication while it waits."""
    await gateway.ask(gateway.registry.jobs.request_pause, job_id)
    return await _shown(gateway, job_id)


@router.post("/{job_id}/resume")
async def resume_job(job_id: str, gateway: GatewayDep) -> dict[str, Any]:
    """Queue a paused job again."""
    await gateway.ask(gateway.registry.jobs.resume, job_id)
    return await _shown(gateway, job_id)


def any_job(job: Job, organisation: str) -> dict[str, Any]:
    """Return OpenAI's object for a fine-tuning job, its common fields for any other kind; with the spec in both."""
    kind = {"object": f"{job.spec.method}.job", "method": {"type": job.spec.method}}
    shown = job_state(job) | kind if job.spec.fine_tune_facts() is None else job_object(job, organisation)
    return shown | {"spec": job.spec.model_dump(mode="json")}


async def _shown(gateway: Gateway, job_id: str) -> dict[str, Any]:
    return any_job(await gateway.ask(gateway.registry.jobs.get, job_id), gateway.registry.organisation)
