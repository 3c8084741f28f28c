"""`/admin/jobs`: jobs of every kind, the publication of folders among them, with their specs."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query

from gateway.deps import ActorDep, Gateway, GatewayDep
from gateway.objects.jobs import AnyJob, FineTuningJobWithSpec, JobEventObject, JobWithSpec
from gateway.objects.lists import ObjectList, ObjectPage
from gateway.openai.fine_tuning import events_page, fine_tune_fields, job_state
from gateway.openai.queueing.queue_facts import QueueFacts, queue_facts
from registry.database import Registry
from registry.errors import NotFound
from registry.jobs.job import Job

router = APIRouter(prefix="/admin/jobs", tags=["jobs"])

_LAST_EVENTS: Final = 20
"""A report is in one of the last events of its job."""
Limit = Annotated[int, Query(ge=1, le=1000)]


@router.get("")
async def list_jobs(gateway: GatewayDep, after: str | None = None, limit: Limit = 100) -> ObjectList[AnyJob]:
    """List jobs, newest first, with the spec that the trainer runs."""
    found = await gateway.ask(gateway.registry.jobs.list, after=after, limit=limit)

    def shown() -> list[AnyJob]:
        queue = queue_facts(gateway.registry, found)
        return [any_job(job, gateway.registry, queue=queue) for job in found]

    return ObjectList(data=await gateway.ask(shown))


@router.get("/{job_id}")
async def show_job(job_id: str, gateway: GatewayDep) -> AnyJob:
    """Show one job of any kind."""
    return await _shown(gateway, job_id)


@router.get("/{job_id}/events")
async def list_events(
    job_id: str, gateway: GatewayDep, after: str | None = None, limit: Limit = 20
) -> ObjectPage[JobEventObject]:
    """List the job's events, newest first."""
    return await events_page(gateway, job_id, after, limit)


@router.post("/{job_id}/cancel")
async def cancel_job(job_id: str, gateway: GatewayDep, actor: ActorDep) -> AnyJob:
    """Cancel a job of any kind."""
    await gateway.ask(gateway.registry.jobs.request_cancel, job_id, actor)
    return await _shown(gateway, job_id)


@router.post("/{job_id}/pause")
async def pause_job(job_id: str, gateway: GatewayDep) -> AnyJob:
    """Pause a job; a publication only while it waits."""
    await gateway.ask(gateway.registry.jobs.request_pause, job_id)
    return await _shown(gateway, job_id)


@router.post("/{job_id}/resume")
async def resume_job(job_id: str, gateway: GatewayDep) -> AnyJob:
    """Queue a paused job again."""
    await gateway.ask(gateway.registry.jobs.resume, job_id)
    return await _shown(gateway, job_id)


def any_job(
    job: Job,
    registry: Registry,
    filenames: Mapping[str, str] | None = None,
    queue: QueueFacts | None = None,
    report: Mapping[str, Any] | None = None,
) -> AnyJob:
    """Return OpenAI's object for a fine-tuning job, its common fields for any other kind; with the spec in both.

    Reads the registry.
    """
    spec, facts = job.spec.model_dump(mode="json"), job.spec.fine_tune_facts()
    if facts is not None:
        fields = fine_tune_fields(job, facts, registry, queue)
        return AnyJob(FineTuningJobWithSpec.model_validate({**fields, "spec": spec, "filenames": filenames or {}}))
    kind = {"object": f"{job.spec.method}.job", "method": {"type": job.spec.method}}
    return AnyJob(
        JobWithSpec.model_validate(
            {**job_state(job, registry, queue), **kind, "spec": spec, "filenames": filenames or {}, "report": report}
        )
    )


def work_report(job: Job, registry: Registry) -> Mapping[str, Any] | None:
    """Return what the work of the job measured, from its events; None for a kind without a report, and before it."""
    key = job.spec.report_key()
    if key is None:
        return None
    events = registry.jobs.events(job.id, limit=_LAST_EVENTS)
    return next((event.data[key] for event in events if key in event.data), None)


async def _shown(gateway: Gateway, job_id: str) -> AnyJob:
    def read() -> AnyJob:
        job = gateway.registry.jobs.get(job_id)
        report = work_report(job, gateway.registry)
        return any_job(job, gateway.registry, _filenames(gateway, job), report=report)

    return await gateway.ask(read)


def _filenames(gateway: Gateway, job: Job) -> Mapping[str, str]:
    found = {}
    for field, file_id in job.spec.files().items():
        with suppress(NotFound):
            found[field] = gateway.registry.files.get(file_id).filename
    return found
