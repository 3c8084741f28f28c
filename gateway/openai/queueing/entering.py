"""The entry of a fine-tuning job into the queue, with the refusals that name a field of the request."""

from __future__ import annotations

from gateway.errors import InvalidRequest, JobTooLarge
from gateway.openai.types import CreateJob
from registry.contracts.fine_tune_spec import FineTuneSpec
from registry.database import Registry
from registry.errors import DependencyRefused
from registry.errors import JobTooLarge as NoDeviceHolds
from registry.jobs.adapter_owners import Claim
from registry.jobs.job import Job
from registry.jobs.scheduling.room import QueueEntry


def after_of(body: CreateJob) -> tuple[str, ...]:
    """Return the ids of the jobs that the new one comes after, each once."""
    return tuple(dict.fromkeys(body.after or ()))


def enter(registry: Registry, spec: FineTuneSpec, actor: str, claim: Claim, entry: QueueEntry) -> Job:
    """Queue the job; `InvalidRequest` for a job that it cannot come after, `JobTooLarge` for one that never fits."""
    try:
        return registry.jobs.create(spec, actor, claim, entry)
    except DependencyRefused as exc:
        raise InvalidRequest(f"after: {exc}", param="after") from exc
    except NoDeviceHolds as exc:
        raise JobTooLarge(f"{exc}", param="hyperparameters") from exc
