"""Light jobs share one base model in one process, and none of them shows that others were there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from threading import Event, Thread

import psutil
import pytest

from registry.database import Registry
from registry.disk import Liveness, sha256_of
from registry.jobs.job import Job
from registry.jobs.job_state import JobState
from registry.types import Replica
from tests.gateway.replica_rows import replica_row
from tests.kills.asked import Trained, chat, pair, rated
from tests.trainer.attempts import TIMEOUT_S, loss_curve, messages, queue, stored_step, training_children
from tests.waiting import wait_for
from trainer.settings import TrainerSettings
from trainer.worker import Worker

pytestmark = pytest.mark.trains

NARROW = {"target_modules": ["q_proj", "v_proj"], "lora_rank": 8}
MIXED: Sequence[Trained] = (
    Trained(name="chats", method="supervised", rows=chat, validates=True),
    Trained(name="pairs", method="dpo", rows=pair, hyperparameters={**NARROW, "batch_size": 2}),
    Trained(name="ratings", method="kto", rows=rated, hyperparameters={"n_epochs": 2, "learning_rate": 0.003}),
)
LONG = {"n_epochs": 50, "checkpoint_steps": 10}
LONGER = {"n_epochs": 50, "checkpoint_steps": 50, "batch_size": 1}
"""Longer than six jobs, which begin while it is at work, need on a machine with much else to do."""
THIS = psutil.Process()


@contextmanager
def at_work(registry: Registry, settings: TrainerSettings) -> Iterator[None]:
    """Have a worker take jobs while the block runs."""
    stop = Event()
    worker = Worker(registry, settings, "w1", Liveness(settings.work.parent, "w1"))
    thread = Thread(target=worker.run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(TIMEOUT_S)


def ended(registry: Registry, *jobs: Job) -> Sequence[Job]:
    """Return the jobs once all have ended."""
    wait_for(lambda: all(registry.jobs.get(job.id).state.is_terminal for job in jobs), TIMEOUT_S)
    return [registry.jobs.get(job.id) for job in jobs]


def published(registry: Registry, job: Job) -> Mapping[str, str]:
    """Return name -> sha256 of the files of a job's revision."""
    found = registry.jobs.get(job.id)
    assert found.state is JobState.SUCCEEDED, found.error
    folder = registry.artifacts.folder(registry.adapters.revision(job.spec.adapter, found.revision or 0).artifact)
    return {path.name: sha256_of(path) for path in sorted(folder.iterdir())}


def test_mixed_jobs_that_join_and_leave_publish_the_bytes_of_each_alone(
    registry: Registry, settings: TrainerSettings
) -> None:
    first = queue(registry, MIXED[0], **LONGER)
    with at_work(registry, settings):
        wait_for(lambda: stored_step(settings.work / first.id) > 0, TIMEOUT_S)
        joined = [queue(registry, kind) for kind in MIXED[1:]]
        failing = queue(registry, replace(MIXED[0], hyperparameters={"learning_rate": 1000}))
        assert ended(registry, failing)[0].state is JobState.FAILED
        ended(registry, *joined)
        assert registry.jobs.get(first.id).state is JobState.RUNNING, "the short jobs did not wait for the long one"
        assert len(training_children(THIS)) == 1
        ended(registry, first)
    beside = [first, *joined]
    alone = [queue(registry, MIXED[0], **LONGER), *(queue(registry, kind) for kind in MIXED[1:])]
    with at_work(registry, settings.model_copy(update={"light_jobs": 1})):
        ended(registry, *alone)
    for one, other in zip(beside, alone, strict=True):
        assert published(registry, one) == published(registry, other)
        assert loss_curve(registry, one.id) == loss_curve(registry, other.id)


def test_after_a_crash_each_job_goes_on_alone_from_its_checkpoint_and_none_is_blamed(
    registry: Registry, settings: TrainerSettings
) -> None:
    settings = settings.model_copy(update={"max_crashes": 1})
    jobs = [queue(registry, kind, **LONG) for kind in MIXED[:2]]
    with at_work(registry, settings):
        wait_for(lambda: all(stored_step(settings.work / job.id) > 0 for job in jobs), TIMEOUT_S)
        (child,) = training_children(THIS)
        child.kill()
        found = ended(registry, *jobs)
    assert [(job.state, job.attempt) for job in found] == [(JobState.SUCCEEDED, 2)] * 2
    for job in jobs:
        assert any("Continuing from the checkpoint of step" in said for said in messages(registry, job.id))


def test_a_job_is_cancelled_or_paused_while_the_others_go_on_and_an_idle_base_is_released(
    registry: Registry, settings: TrainerSettings
) -> None:
    cancelled, paused = (queue(registry, kind, **LONG) for kind in MIXED[:2])
    with at_work(registry, settings.model_copy(update={"idle_base_s": 3.0})):
        wait_for(lambda: all(stored_step(settings.work / job.id) > 0 for job in (cancelled, paused)), TIMEOUT_S)
        (child,) = training_children(THIS)
        registry.jobs.request_cancel(cancelled.id, "ann")
        registry.jobs.request_pause(paused.id)
        assert ended(registry, cancelled)[0].state is JobState.CANCELLED
        wait_for(lambda: registry.jobs.get(paused.id).state is JobState.PAUSED, TIMEOUT_S)
        registry.jobs.resume(paused.id)
        done = ended(registry, paused)[0]
        assert (done.state, done.attempt) == (JobState.SUCCEEDED, 2)
        wait_for(lambda: not child.is_running(), TIMEOUT_S)


def test_training_stands_still_while_the_engines_beside_it_have_much_to_do(
    registry: Registry, settings: TrainerSettings
) -> None:
    jobs = [queue(registry, kind, **LONG) for kind in MIXED[:2]]
    with at_work(registry, settings):
        wait_for(lambda: all(stored_step(settings.work / job.id) > 0 for job in jobs), TIMEOUT_S)
        registry.replicas.report(busy_engine(settings.engine_load_limit + 1))
        (child,) = training_children(THIS)
        wait_for(lambda: child.status() == psutil.STATUS_STOPPED, TIMEOUT_S)
        registry.jobs.request_pause(jobs[0].id)
        wait_for(lambda: registry.jobs.get(jobs[0].id).state is JobState.PAUSED, TIMEOUT_S)
        wait_for(lambda: child.status() == psutil.STATUS_STOPPED, TIMEOUT_S)
        registry.replicas.report(busy_engine(settings.engine_load_limit))
        assert ended(registry, jobs[1])[0].state is JobState.SUCCEEDED
    (said,) = [said for said in messages(registry, jobs[1].id) if "stands still" in said]
    assert f"more than {settings.engine_load_limit} requests" in said


def busy_engine(load: int) -> Replica:
    """Return the report of an engine on this machine."""
    return replica_row("engine-1", load=load)
