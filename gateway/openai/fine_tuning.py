"""`/v1/fine_tuning/jobs`: create, retrieve, list, cancel, pause, resume, events, checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request

from gateway.deps import ActorDep, CallerDep, Gateway, GatewayDep, KnownQuery
from gateway.errors import InvalidRequest, JobTooLarge
from gateway.evaluations.gate_plan import pinned_plan
from gateway.keys.access import check_judge, check_plan
from gateway.objects.jobs import CheckpointState, FineTuningJob, JobCheckpointObject, JobEventObject
from gateway.objects.lists import ObjectPage, page_of
from gateway.openai.graders import check_grader
from gateway.openai.job_estimate import estimate_of
from gateway.openai.job_measurements import advice, estimate_of_spec, queue_entry, remember_estimate
from gateway.openai.job_request import build_spec, claim_for
from gateway.openai.queueing.entering import after_of, enter
from gateway.openai.queueing.queue_facts import QueueFacts, queue_facts, waiting_fields
from gateway.openai.queueing.unfit_rows import refuse_unfit
from gateway.openai.types import CreateJob, whole_seconds
from registry.contracts.job_spec import FineTuneFacts
from registry.contracts.rollout_spec import RolloutSpec
from registry.database import Registry
from registry.errors import NotFound
from registry.jobs.job import Job, JobCheckpoint, JobEvent
from registry.states import RevisionState

router = APIRouter(prefix="/v1/fine_tuning/jobs", dependencies=[KnownQuery], tags=["fine-tuning"])

Limit = Annotated[int, Query(ge=1, le=1000)]


def metadata_filter(request: Request, metadata: Literal["null"] | None = None) -> dict[str, str] | None:
    """Return the pairs `metadata[key]=value` of the query; empty for `metadata=null`, None without a filter."""
    pairs = [(name, value) for name, value in request.query_params.multi_items() if name.startswith("metadata[")]
    if metadata is not None:
        if pairs:
            raise InvalidRequest("metadata=null does not go with metadata[key]=value", param="metadata")
        return {}
    wanted = {name[len("metadata[") : -1]: value for name, value in pairs}
    if len(wanted) < len(pairs):
        raise InvalidRequest("metadata filters by one value for a key", param="metadata")
    return wanted or None


MetadataDep = Annotated[dict[str, str] | None, Depends(metadata_filter)]


@router.post("")
async def create_job(body: CreateJob, gateway: GatewayDep, caller: CallerDep, actor: ActorDep) -> FineTuningJob:
    """Queue a job; 400 names the field that the pools or the base model could not serve.

    A key that is for some models only may train the adapters among them.
    """
    await gateway.feed.refresh()
    check_judge(caller, gateway.feed.table, body.rollout.shadow_judge if body.rollout else None)

    if body.method is not None:
        for grader in body.method.options().graders():
            await check_grader(grader, gateway, caller, body.method.grader_place())

    def create() -> Job:
        spec = build_spec(body, gateway.registry, caller)
        plan = spec.rollout_plan()
        check_plan(caller, plan)
        if plan is not None and plan.gate is not None:
            pinned = pinned_plan(gateway.registry, caller, gateway.feed.table, plan)
            spec = spec.model_copy(update={"rollout": RolloutSpec.from_plan(pinned)})
        refuse_unfit(spec, gateway.registry)
        made = estimate_of_spec(spec, gateway.registry, gateway.own_machine)
        try:
            job = enter(
                gateway.registry,
                spec,
                actor,
                claim_for(body, caller, spec.adapter),
                queue_entry(spec, made, after_of(body)),
            )
        except JobTooLarge as exc:
            raise JobTooLarge(f"{exc}{advice(made)}", param=exc.param) from exc
        remember_estimate(job, made, gateway.registry)
        gateway.registry.audit.record(actor, "job.create", job.id, {"adapter": spec.adapter, "base": spec.base})
        return job

    return await gateway.ask(lambda: job_object(create(), gateway.registry))


@router.get("")
async def list_jobs(
    gateway: GatewayDep, caller: CallerDep, wanted: MetadataDep, after: str | None = None, limit: Limit = 20
) -> ObjectPage[FineTuningJob]:
    """List fine-tuning jobs, newest first; `metadata[key]=value` filters, `metadata=null` finds jobs without any."""
    jobs = gateway.registry.jobs
    sees = caller.sees
    found = await gateway.ask(
        jobs.list, after=after, limit=limit + 1, metadata=wanted, only_fine_tuning=True, tenant=sees
    )
    return page_of(await gateway.ask(_objects, found, gateway.registry), limit)


def _objects(jobs: Sequence[Job], registry: Registry) -> list[FineTuningJob]:
    queue = queue_facts(registry, jobs)
    return [job_object(job, registry, queue) for job in jobs]


async def find_job(job_id: str, gateway: GatewayDep, caller: CallerDep) -> Job:
    """Return the fine-tuning job if the caller sees it, else raise `NotFound`; `/admin/jobs` shows other kinds."""
    job = await gateway.ask(gateway.registry.jobs.get, job_id, caller.sees)
    if job.spec.fine_tune_facts() is None:
        raise NotFound(f"there is no fine-tuning job {job_id!r}")
    return job


JobDep = Annotated[Job, Depends(find_job)]
"""The job that the path names, of those that the caller sees: no handler below gets at any other."""


@router.get("/{job_id}")
async def get_job(job: JobDep, gateway: GatewayDep) -> FineTuningJob:
    """Show one job."""
    return await gateway.ask(job_object, job, gateway.registry)


@router.post("/{job_id}/cancel")
async def cancel_job(job: JobDep, gateway: GatewayDep, actor: ActorDep) -> FineTuningJob:
    """Cancel a job: at once while it waits, within a heartbeat of its worker while it runs."""
    moved = await gateway.ask(gateway.registry.jobs.request_cancel, job.id, actor)
    return await gateway.ask(job_object, moved, gateway.registry)


@router.post("/{job_id}/pause")
async def pause_job(job: JobDep, gateway: GatewayDep) -> FineTuningJob:
    """Pause a job at the next checkpoint; `resume` goes on from there."""
    moved = await gateway.ask(gateway.registry.jobs.request_pause, job.id)
    return await gateway.ask(job_object, moved, gateway.registry)


@router.post("/{job_id}/resume")
async def resume_job(job: JobDep, gateway: GatewayDep) -> FineTuningJob:
    """Queue a paused job again."""
    moved = await gateway.ask(gateway.registry.jobs.resume, job.id)
    return await gateway.ask(job_object, moved, gateway.registry)


@router.get("/{job_id}/events")
async def list_events(
    job: JobDep, gateway: GatewayDep, after: str | None = None, limit: Limit = 20
) -> ObjectPage[JobEventObject]:
    """List the job's events, newest first."""
    return await events_page(gateway, job.id, after, limit)


@router.get("/{job_id}/checkpoints")
async def list_checkpoints(
    job: JobDep, gateway: GatewayDep, after: str | None = None, limit: Limit = 10
) -> ObjectPage[JobCheckpointObject]:
    """List the job's checkpoints, newest first."""
    found = await gateway.ask(gateway.registry.jobs.checkpoints, job.id, after=after, limit=limit + 1)
    published = await gateway.ask(published_steps, gateway.registry, job)
    unpublished = CheckpointState(kind=job.spec.result_kind())
    organisation = gateway.registry.organisation
    listed = [_checkpoint(job, each, published.get(each.global_step, unpublished), organisation) for each in found]
    return page_of(listed, limit)


def published_steps(registry: Registry, job: Job) -> dict[int, CheckpointState]:
    """Return the steps of the job that were published, with what became of each."""
    kind = job.spec.result_kind()
    steps = {
        each.step: CheckpointState(
            kind=kind, served_name=each.served_name, state=each.state, expires_at=whole_seconds(each.expires_at)
        )
        for each in registry.checkpoints.of_job(job.id)
    }
    return steps | {
        base.step: CheckpointState(
            kind=kind, served_name=base.name, state=RevisionState.READY, expires_at=whole_seconds(base.expires_at)
        )
        for base in registry.bases.list()
        if base.job_id == job.id and base.step is not None
    }


async def events_page(gateway: Gateway, job_id: str, after: str | None, limit: int) -> ObjectPage[JobEventObject]:
    """Return a page of the events of a job of any kind."""
    found = await gateway.ask(gateway.registry.jobs.events, job_id, after=after, limit=limit + 1)
    return page_of([_event(event) for event in found], limit)


def job_object(job: Job, registry: Registry, queue: QueueFacts | None = None) -> FineTuningJob:
    """Return OpenAI's `fine_tuning.job` object with Lorry's facts; `NotFound` for other kinds. Reads the registry.

    *queue* is given where several jobs are shown, so that the queue is read once.
    """
    facts = job.spec.fine_tune_facts()
    if facts is None:
        raise NotFound(f"there is no fine-tuning job {job.id!r}")
    return FineTuningJob.model_validate(fine_tune_fields(job, facts, registry, queue))


def job_state(job: Job, registry: Registry, queue: QueueFacts | None = None) -> dict[str, Any]:
    """Return the fields that the objects of all kinds of jobs have in common, as `JobObject` has them."""
    spec = job.spec
    queue = queue_facts(registry, [job]) if queue is None else queue
    return {
        "id": job.id,
        "created_at": int(job.created_at),
        "finished_at": whole_seconds(job.finished_at),
        "model": spec.base,
        "status": job.state,
        "error": job.error and {"code": job.error.code, "message": job.error.message, "param": job.error.param},
        "lorry": {
            "adapter": spec.adapter,
            "base_digest": spec.base_digest,
            "revision": None if job.revision is None else f"{spec.adapter}@{job.revision}",
            "owner": job.owner,
            "attempt": job.attempt,
            "worker": job.worker,
            "started_at": None if job.started_at is None else int(job.started_at),
            "phase": job.phase,
            "doing": job.doing,
            "phase_since": None if job.phase_since is None else int(job.phase_since),
            "estimate": estimate_of(job, registry),
            "unfit_rows": job.unfit_rows,
            **waiting_fields(job, queue),
        },
    }


def fine_tune_fields(
    job: Job, facts: FineTuneFacts, registry: Registry, queue: QueueFacts | None = None
) -> dict[str, Any]:
    """Return the fields of `FineTuningJob`."""
    state = job_state(job, registry, queue)
    return state | {
        "estimated_finish": whole_seconds(job.expected_finish),
        "fine_tuned_model": job.fine_tuned_model,
        "organization_id": registry.organisation,
        "training_file": facts.training_file,
        "validation_file": facts.validation_file,
        "result_files": [] if job.result_file is None else [job.result_file],
        "hyperparameters": facts.hyperparameters,
        "method": facts.method,
        "seed": facts.seed,
        "trained_tokens": job.trained_tokens,
        "integrations": facts.integrations,
        "metadata": facts.metadata,
        "user_provided_suffix": facts.suffix,
        "lorry": state["lorry"] | facts.extensions,
    }


def _event(event: JobEvent) -> JobEventObject:
    return JobEventObject.model_validate(
        {
            "id": event.id,
            "created_at": int(event.at),
            "level": event.level,
            "message": event.message,
            "type": event.type,
            "data": event.data,
        }
    )


def _checkpoint(
    job: Job, checkpoint: JobCheckpoint, published: CheckpointState, organisation: str
) -> JobCheckpointObject:
    return JobCheckpointObject(
        id=checkpoint.id,
        created_at=int(checkpoint.at),
        fine_tuned_model_checkpoint=job.spec.checkpoint_alias(job.id, organisation, checkpoint.global_step),
        fine_tuning_job_id=job.id,
        step_number=checkpoint.global_step,
        metrics={"step": checkpoint.global_step, **checkpoint.metrics},
        lorry=published,
    )
