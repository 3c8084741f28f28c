"""`/admin/reproductions`: run the job of a revision again and report whether the same comes out."""

from __future__ import annotations

from dataclasses import asdict

from fastapi import APIRouter

from gateway.deps import AuthorDep, GatewayDep
from gateway.objects.jobs import JobErrorObject
from gateway.objects.reproductions import ReproductionObject
from gateway.openai.types import Body
from registry.contracts.reproductions.reproduction_report import REPORT, ReproductionReport
from registry.database import Registry
from registry.errors import NotFound
from registry.jobs.job import Job
from registry.publishing.reproductions import queue_reproduction

router = APIRouter(prefix="/admin/reproductions", tags=["jobs"])

LAST_EVENTS = 5
"""The report is in one of the last events of its job."""


class ReproductionRequest(Body):
    """The body of `POST /admin/reproductions`."""

    model: str
    """Name of the revision: `support@7`."""


@router.post("")
async def reproduce(body: ReproductionRequest, gateway: GatewayDep, author: AuthorDep) -> ReproductionObject:
    """Queue the job that makes the revision again; 409 lists every reason why it cannot be run."""

    def create() -> ReproductionObject:
        job = queue_reproduction(gateway.registry, body.model, author.name, author.caller.claim_on(body.model))
        return _reproduction(job, gateway.registry)

    return await gateway.ask(create)


@router.get("/{job_id}")
async def show_reproduction(job_id: str, gateway: GatewayDep) -> ReproductionObject:
    """Show the job and, once it has succeeded, its report."""

    def read() -> ReproductionObject:
        return _reproduction(gateway.registry.jobs.get(job_id), gateway.registry)

    return await gateway.ask(read)


def _reproduction(job: Job, registry: Registry) -> ReproductionObject:
    result = job.spec.reproduces()
    if result is None:
        raise NotFound(f"job {job.id!r} is not a reproduction; it is in /admin/jobs")
    events = registry.jobs.events(job.id, limit=LAST_EVENTS)
    found = [ReproductionReport.model_validate(event.data[REPORT]) for event in events if REPORT in event.data]
    error = None if job.error is None else JobErrorObject.model_validate(asdict(job.error))
    return ReproductionObject(
        id=job.id,
        model=result,
        status=job.state,
        error=error,
        verdict=found[0].verdict if found else None,
        report=found[0] if found else None,
    )
