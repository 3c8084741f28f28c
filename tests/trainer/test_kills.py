"""An attempt that is interrupted by a kill, a pause, a stop or a lost lease costs no step and changes no result."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from threading import Event

import psutil
import pytest

from registry.database import Registry
from registry.disk import Liveness
from registry.jobs.job import Lease
from registry.jobs.job_state import JobState
from registry.jobs.scheduling.giving_way import GiveWayRules
from registry.states import Priority
from tests.trainer.attempts import (
    LONG,
    LONG_STEPS,
    TIMEOUT_S,
    MakeJob,
    loss_curve,
    messages,
    stored_step,
    suspended,
    training_children,
    work,
    worker_process,
    working,
)
from tests.trainer.forks.forked_children import ForkedChildren
from tests.waiting import wait_for
from trainer.settings import TrainerSettings
from trainer.worker import Worker

pytestmark = pytest.mark.trains

THIS = psutil.Process()


def test_kill_9_of_the_worker_and_then_of_a_child_leaves_the_result_as_it_would_have_been(
    registry: Registry, settings: TrainerSettings, make_job: MakeJob, home: Path
) -> None:
    straight = make_job(**LONG)
    work(registry, settings)
    job = make_job(**LONG)
    folder = settings.work / job.id
    with worker_process(home) as worker, suspended(psutil.Process(worker.pid), folder) as child:
        # what the worker has read of the pipe and not stored would be lost with it
        wait_for(lambda: max(loss_curve(registry, job.id), default=0) >= stored_step(folder), TIMEOUT_S)
        worker.kill()
        worker.wait()
        wait_for(lambda: has_ended(child), TIMEOUT_S)
    assert registry.jobs.get(job.id).state is JobState.RUNNING, "only a controller ends its lease"
    died_at = stored_step(folder)
    wait_for(lambda: registry.jobs.expire_leases() == [job.id], TIMEOUT_S)
    with working(registry, settings) as (attempt, _):
        with suspended(THIS, folder, died_at) as child:
            child.kill()
        attempt.result(TIMEOUT_S)
    assert registry.jobs.get(job.id).state is JobState.QUEUED
    work(registry, settings)
    ended = registry.jobs.get(job.id)
    assert (ended.state, ended.attempt) == (JobState.SUCCEEDED, 3)
    said = messages(registry, job.id)
    assert any("was killed by SIGKILL" in message for message in said)
    assert sum("Continuing from the checkpoint of step" in message for message in said) == 2
    assert loss_curve(registry, job.id) == loss_curve(registry, straight.id)
    first, second = registry.adapters.revision("support", 1), registry.adapters.revision("support", 2)
    assert (first.job_id, second.job_id) == (straight.id, job.id)
    assert second.artifact == first.artifact, "one spec, one folder, byte for byte"


def has_ended(process: psutil.Process) -> bool:
    """Whether *process* runs no more; nobody may have collected its exit code."""
    with suppress(psutil.NoSuchProcess):
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    return True


def test_a_job_pauses_resumes_gives_way_follows_its_worker_into_a_stop_and_can_be_cancelled_at_work(
    registry: Registry, settings: TrainerSettings, forks: ForkedChildren, make_job: MakeJob
) -> None:
    job = make_job(**LONG)
    folder = settings.work / job.id
    with forks.working(registry, settings) as (attempt, _):
        with suspended(forks.process, folder):
            registry.jobs.request_pause(job.id)
        attempt.result(TIMEOUT_S)
    assert registry.jobs.get(job.id).state is JobState.PAUSED
    paused_at = stored_step(folder)
    assert not Worker(registry, settings, "w1", Liveness(settings.work.parent, "w1")).work_once(Event()), (
        "a paused job waits"
    )
    registry.jobs.resume(job.id)
    with forks.working(registry, settings) as (attempt, _):
        with suspended(forks.process, folder, paused_at):
            urgent = make_job(priority=Priority.HIGH)
            rules = GiveWayRules(least_run_s=0.0, least_left_s=0.0)
            asked = wait_for(lambda: registry.jobs.ask_to_give_way(rules), TIMEOUT_S)
        attempt.result(TIMEOUT_S)
    assert asked == {job.id: urgent.id}
    assert registry.jobs.get(job.id).state is JobState.QUEUED
    assert any("Gave way to a job of a higher priority" in message for message in messages(registry, job.id))
    gave_way_at = stored_step(folder)
    assert gave_way_at > paused_at
    registry.jobs.request_cancel(urgent.id, "ann")
    with forks.working(registry, settings) as (attempt, stop):
        with suspended(forks.process, folder, gave_way_at):
            stop.set()
        attempt.result(TIMEOUT_S)
    assert registry.jobs.get(job.id).state is JobState.QUEUED
    with forks.working(registry, settings) as (attempt, _):
        wait_for(lambda: training_children(forks.process), TIMEOUT_S)
        registry.jobs.request_cancel(job.id, "ann")
        attempt.result(TIMEOUT_S)
    assert registry.jobs.get(job.id).state is JobState.CANCELLED
    steps = sorted(loss_curve(registry, job.id))
    assert steps == list(range(1, len(steps) + 1)), "no step was left out or done twice with another result"
    assert registry.snapshot().revisions == ()
    assert not list(settings.work.glob("*/*/checkpoint-*"))


def test_a_worker_that_lost_its_lease_stops_its_child_and_leaves_the_job_alone(
    registry: Registry, settings: TrainerSettings, make_job: MakeJob
) -> None:
    job = make_job(**LONG)
    with working(registry, settings) as (attempt, _):
        (child,) = wait_for(lambda: training_children(THIS), TIMEOUT_S)
        held = registry.jobs.get(job.id)
        registry.jobs.release(Lease(job_id=job.id, worker="w1", attempt=held.attempt))
        taken = registry.jobs.claim("w2", lease_s=60.0)
        assert attempt.result(TIMEOUT_S)
    assert taken is not None
    assert not child.is_running()
    now = registry.jobs.get(job.id)
    assert (now.state, now.worker, now.attempt) == (JobState.RUNNING, "w2", 2)


def test_training_goes_on_while_the_registry_takes_nothing_and_no_step_is_lost(
    registry: Registry,
    settings: TrainerSettings,
    forks: ForkedChildren,
    make_job: MakeJob,
    home: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    job = make_job(**LONG)
    with forks.working(registry, settings) as (attempt, _):
        with closing(sqlite3.connect(home / "registry.db", isolation_level=None, timeout=TIMEOUT_S)) as other:
            with suspended(forks.process, settings.work / job.id):
                other.execute("BEGIN IMMEDIATE")
            wait_for(lambda: "the registry takes no progress" in caplog.text, TIMEOUT_S)
            other.execute("ROLLBACK")
        attempt.result(TIMEOUT_S)
    ended = registry.jobs.get(job.id)
    assert (ended.state, ended.attempt) == (JobState.SUCCEEDED, 1)
    assert sorted(loss_curve(registry, job.id)) == list(range(1, LONG_STEPS + 1))


def test_a_job_that_kills_its_children_fails_in_the_end(
    registry: Registry, settings: TrainerSettings, make_job: MakeJob
) -> None:
    job = make_job(**LONG)
    with working(registry, settings.model_copy(update={"max_crashes": 1})) as (attempt, _):
        (child,) = wait_for(lambda: training_children(THIS), TIMEOUT_S)
        child.kill()
        attempt.result(TIMEOUT_S)
    ended = registry.jobs.get(job.id)
    assert ended.error is not None
    assert (ended.state, ended.error.code) == (JobState.FAILED, "trainer_crashed")
    assert "was killed by SIGKILL" in ended.error.message
