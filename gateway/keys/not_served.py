"""The reason why a known name answers no request: a reward model, a retired one, one of an open job."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from gateway.errors import ModelNotFound
from gateway.keys.access import shown, unknown_model
from gateway.keys.caller import Caller
from gateway.routing.routing import RouteTable
from registry.database import Registry
from registry.errors import NotFound, RegistryError
from registry.jobs.job import Job
from registry.jobs.job_state import JobState
from registry.states import AdapterKind, RevisionState

STEP: Final = ":ckpt-step-"


async def why_unknown(registry: Registry, caller: Caller, table: RouteTable, name: str) -> ModelNotFound:
    """Return the error for a *name* that no request of *caller* can be answered by; the message names its kind."""
    why = None
    with suppress(RegistryError):  # then the plain error has to do
        why = await asyncio.to_thread(why_no_answer, registry, caller, name)
    return unknown_model(caller, table, name) if why is None else ModelNotFound(why)


def why_no_answer(registry: Registry, caller: Caller, name: str) -> str | None:
    """Return what *name* is and what to do; None for a name that *caller* does not see here, or that answers."""
    looks: tuple[Callable[[Registry, Caller, str], str | None], ...] = (_of_retired, _of_reward, _of_job)
    return next((why for look in looks if (why := look(registry, caller, name)) is not None), None)


def _of_reward(registry: Registry, caller: Caller, name: str) -> str | None:
    found = registry.checkpoints.find(name)
    series = name.partition("@")[0] if found is None else found.adapter
    with suppress(NotFound):
        kind = registry.adapters.get(series).kind if found is None else found.kind
        if kind is AdapterKind.REWARD and _sees(registry, caller, series, name):
            return (
                f"The model {shown(name)!r} is a reward model: it scores answers and gives none. Name it in a grader "
                "of the type reward_model, in a job of the method reinforcement or ppo."
            )
    return None


def _of_retired(registry: Registry, caller: Caller, name: str) -> str | None:
    checkpoint = registry.checkpoints.find(name)
    if checkpoint is not None:
        if checkpoint.state is not RevisionState.RETIRED or not _sees(registry, caller, checkpoint.adapter, name):
            return None
        is_over = checkpoint.expires_at is not None and checkpoint.expires_at <= registry.transactions.now()
        what = f"was kept until {_day(checkpoint.expires_at)}" if is_over else "was deleted"
        return (
            f"The checkpoint {shown(name)!r} {what} and is not served any more. {_rest(registry, checkpoint.adapter)}"
        )
    with suppress(NotFound):
        revision = registry.adapters.named(name)
        if revision.state is RevisionState.RETIRED and _sees(registry, caller, revision.adapter, name):
            return (
                f"The model {shown(name)!r} was retired and is not served any more. {_rest(registry, revision.adapter)}"
            )
    return None


def _rest(registry: Registry, adapter: str) -> str:
    """Return what answers in place of a retired model."""
    with suppress(NotFound):
        if (stable := registry.adapters.get(adapter).stable) is not None:
            return f"{adapter!r} answers by its stable revision, {adapter}@{stable}."
    return "Train it again, or list the models: GET /v1/models."


def _of_job(registry: Registry, caller: Caller, name: str) -> str | None:
    stem, _, step = name.partition(STEP)
    job = _job_of(registry, caller, stem)
    if job is None:
        return None
    if job.state is JobState.SUCCEEDED:
        return _of_succeeded(registry, job, name, step)
    if job.state.is_terminal:
        return f"The model {shown(name)!r} does not exist: the job {job.id}, which was to make it, has {_ended(job)}."
    until = "once that step is published" if step else "once the job has succeeded"
    return (
        f"The model {shown(name)!r} is made by the job {job.id}, which is {job.state}. It answers {until}: "
        f"GET /v1/fine_tuning/jobs/{job.id}{'/checkpoints' if step else ''} shows when."
    )


def _of_succeeded(registry: Registry, job: Job, name: str, step: str) -> str | None:
    if not step:
        made = job.fine_tuned_model
        return None if made == name else f"The job {job.id} made {made!r}; name that instead of {shown(name)!r}."
    kept = [str(each.global_step) for each in registry.jobs.checkpoints(job.id)]
    listed = f"the steps {', '.join(kept)}" if kept else "none of its steps"
    return f"The job {job.id} has no checkpoint {shown(name)!r}: kept are {listed}."


def _ended(job: Job) -> str:
    why = "" if job.error is None else f": {job.error.message[:200]}"
    return f"been cancelled{why}" if job.state is JobState.CANCELLED else f"failed{why}"


def _job_of(registry: Registry, caller: Caller, stem: str) -> Job | None:
    """Return the job whose model has the name *stem*, or the open one that trains the adapter of that name."""
    for job in registry.jobs.making(stem, caller.sees):
        alias = job.spec.checkpoint_alias(job.id, registry.organisation, 0).partition(STEP)[0]
        if stem == alias or (stem == job.spec.adapter and not job.state.is_terminal):
            return job
    return None


def _sees(registry: Registry, caller: Caller, adapter: str, name: str) -> bool:
    owner = registry.owners.get(adapter)
    tenant = None if owner is None or owner.is_shared else owner.tenant
    return caller.may_use((name, adapter), tenant)


def _day(at: float | None) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(at))
