"""A job gets from the queue to a revision, whichever process dies meanwhile."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import psutil
import pytest

from registry.contracts.job_spec import LoraSpec
from registry.contracts.supervised_spec import SupervisedSpec
from registry.database import Registry
from registry.jobs.job import Job, JobState, Lease
from tests.trainer.conftest import MakeSpec
from tests.trainer.tiny_base import write_chats
from tests.waiting import wait_for
from trainer.settings import TrainerSettings
from trainer.worker import Worker

MakeJob = Callable[..., Job]
LONG = {"n_epochs": 30, "checkpoint_steps": 10}
"""90 steps: long enough to be caught at work, short enough to end soon."""
TIMEOUT_S = 90.0


@pytest.fixture
def settings(home: Path) -> TrainerSettings:
    return TrainerSettings(work=home / "jobs", lease_s=20.0, poll_s=0.1)


@pytest.fixture
def make_job(registry: Registry, make_spec: MakeSpec, home: Path) -> MakeJob:
    """Queues jobs on an uploaded file; keyword arguments override fields of the spec."""

    def make(*, validates: bool = False, **fields: Any) -> Job:
        with write_chats(home / "chats.jsonl").open("rb") as lines:
            file = registry.files.add(lines, filename="chats.jsonl", purpose="fine-tune", owner="ann")
        files = {"training_file": file.id, "validation_file": file.id if validates else None}
        return registry.jobs.create(make_spec(**(files | fields)), owner="ann")

    return make


@contextmanager
def working(registry: Registry, settings: TrainerSettings) -> Iterator[tuple[Future[bool], Event]]:
    """A worker that makes one attempt beside the test."""
    stop = Event()
    with ThreadPoolExecutor(1) as pool:
        attempt = pool.submit(Worker(registry, settings, "w1").work_once, stop)
        try:
            yield attempt, stop
        finally:
            stop.set()


@contextmanager
def worker_process(home: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`python -m trainer` on the registry in *home*, with a lease that runs out soon."""
    config = home / "lorry.toml"
    config.write_text("[trainer]\nlease_s = 2.0\npoll_s = 0.1\n")
    environment = os.environ | {"LORRY_HOME": str(home), "LORRY_CONFIG": str(config)}
    worker = subprocess.Popen([sys.executable, "-m", "trainer"], env=environment, stderr=subprocess.DEVNULL)
    try:
        yield worker
    finally:
        worker.kill()
        worker.wait()


def work(registry: Registry, settings: TrainerSettings) -> None:
    """Make one attempt, to its end."""
    assert Worker(registry, settings, "w1").work_once(Event())


def saved_step(registry: Registry, job_id: str) -> int:
    """The furthest checkpoint that the registry knows, 0 if there is none."""
    return max((checkpoint.global_step for checkpoint in registry.jobs.checkpoints(job_id)), default=0)


def child_of(process: psutil.Process) -> psutil.Process:
    """The training child of a worker process."""
    return next(child for child in process.children() if "trainer.child" in child.cmdline())


def own_children() -> list[psutil.Process]:
    """The training children of this process; other tests' servers may be its children too."""
    return [child for child in psutil.Process().children() if "trainer.child" in child.cmdline()]


def loss_curve(registry: Registry, job_id: str) -> dict[int, float]:
    """Step -> loss as reported last, and every report of a step the same."""
    curve: dict[int, float] = {}
    for event in registry.jobs.events(job_id, limit=1000):
        if event.type == "metrics":
            step, loss = event.data["step"], event.data["train_loss"]
            assert curve.setdefault(step, loss) == loss
    return curve


def messages(registry: Registry, job_id: str) -> list[str]:
    """What the job's events say, oldest first, steps left out."""
    events = registry.jobs.events(job_id, limit=1000)[::-1]
    return [event.message for event in events if event.type == "message"]


def test_a_job_becomes_a_revision_that_says_what_made_it(
    registry: Registry, settings: TrainerSettings, make_job: MakeJob
) -> None:
    job = make_job(validates=True)
    assert isinstance(job.spec, SupervisedSpec)
    file = registry.files.get(job.spec.training_file)
    work(registry, settings)
    ended = registry.jobs.get(job.id)
    assert (ended.state, ended.error) == (JobState.SUCCEEDED, None)
    assert ended.fine_tuned_model == f"ft:tiny:lorry:support:{job.id[-8:]}"
    revision = registry.adapters.revision("support", 1)
    assert (revision.alias, revision.job_id, revision.owner) == (ended.fine_tuned_model, job.id, "ann")
    made_by = json.loads(json.dumps(revision.provenance))
    assert made_by["dataset"]["sha256"] == made_by["validation"]["sha256"] == file.digest
    assert made_by["base"] == {"name": "tiny", "digest": job.spec.base_digest}
    assert made_by["hyperparameters"]["lora"]["rank"] == 4
    assert (made_by["seed"], made_by["owner"], made_by["attempts"]) == (7, "ann", 1)
    assert made_by["metrics"]["step"] == 6
    assert made_by["metrics"]["full_valid_loss"] > 0
    assert set(made_by["versions"]) >= {"torch", "transformers", "peft", "python"}
    assert made_by["times"]["started_at"] >= job.created_at
    assert made_by["trained_tokens"] == ended.trained_tokens
    assert sorted(loss_curve(registry, job.id)) == [1, 2, 3, 4, 5, 6]
    assert [checkpoint.global_step for checkpoint in registry.jobs.checkpoints(job.id)] == [6, 4, 2]
    said = messages(registry, job.id)
    for expected in (
        "Fine-tuning job started",
        "Checkpoint saved at step 2",
        f"New fine-tuned model created: {revision.alias}",
        "The job has successfully completed",
    ):
        assert expected in said
    assert not list(settings.work.glob("*/*/checkpoint-*")), "an ended job leaves no checkpoints"


def test_kill_9_of_the_worker_and_then_of_a_child_leaves_the_result_as_it_would_have_been(
    registry: Registry, settings: TrainerSettings, make_job: MakeJob, home: Path
) -> None:
    straight = make_job(**LONG)
    work(registry, settings)
    job = make_job(**LONG)
    with worker_process(home) as worker:
        wait_for(lambda: saved_step(registry, job.id) >= 10, TIMEOUT_S)
        child = child_of(psutil.Process(worker.pid))
        worker.kill()
        worker.wait()
    wait_for(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, TIMEOUT_S)
    assert registry.jobs.get(job.id).state is JobState.RUNNING, "its lease has not run out yet"
    died_at = saved_step(registry, job.id)
    wait_for(lambda: registry.jobs.expire_leases() == [job.id], TIMEOUT_S)
    with working(registry, settings) as (attempt, _):
        wait_for(lambda: saved_step(registry, job.id) > died_at, TIMEOUT_S)
        child_of(psutil.Process()).kill()
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


def test_a_job_pauses_resumes_follows_its_worker_into_a_stop_and_can_be_cancelled_at_work(
    registry: Registry, settings: TrainerSettings, make_job: MakeJob
) -> None:
    job = make_job(**LONG)
    with working(registry, settings) as (attempt, _):
        wait_for(lambda: saved_step(registry, job.id) >= 10, TIMEOUT_S)
        registry.jobs.request_pause(job.id)
        attempt.result(TIMEOUT_S)
    assert registry.jobs.get(job.id).state is JobState.PAUSED
    paused_at = saved_step(registry, job.id)
    assert not Worker(registry, settings, "w1").work_once(Event()), "a paused job waits"
    registry.jobs.resume(job.id)
    with working(registry, settings) as (attempt, stop):
        wait_for(lambda: saved_step(registry, job.id) > paused_at, TIMEOUT_S)
        stop.set()
        attempt.result(TIMEOUT_S)
    assert registry.jobs.get(job.id).state is JobState.QUEUED
    with working(registry, settings) as (attempt, _):
        wait_for(own_children, TIMEOUT_S)
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
        (child,) = wait_for(own_children, TIMEOUT_S)
        held = registry.jobs.get(job.id)
        registry.jobs.release(Lease(job_id=job.id, worker="w1", attempt=held.attempt))
        taken = registry.jobs.claim("w2", lease_s=60.0)
        assert attempt.result(TIMEOUT_S)
    assert taken is not None
    assert not child.is_running()
    now = registry.jobs.get(job.id)
    assert (now.state, now.worker, now.attempt) == (JobState.RUNNING, "w2", 2)


def test_training_goes_on_while_the_registry_takes_nothing_and_no_step_is_lost(
    registry: Registry, settings: TrainerSettings, make_job: MakeJob, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job = make_job(**LONG)
    with working(registry, settings) as (attempt, _):
        wait_for(lambda: saved_step(registry, job.id) >= 10, TIMEOUT_S)
        with closing(sqlite3.connect(home / "registry.db", isolation_level=None, timeout=TIMEOUT_S)) as other:
            other.execute("BEGIN IMMEDIATE")
            wait_for(lambda: "the registry takes no progress" in caplog.text, TIMEOUT_S)
            other.execute("ROLLBACK")
        attempt.result(TIMEOUT_S)
    ended = registry.jobs.get(job.id)
    assert (ended.state, ended.attempt) == (JobState.SUCCEEDED, 1)
    assert sorted(loss_curve(registry, job.id)) == list(range(1, 91))


@pytest.mark.parametrize(
    ("fields", "code", "param", "said"),
    [
        ({"max_length": 16}, "row_too_long", "training_file", "line 1: "),
        ({"base_digest": "0" * 64}, "base_changed", "model", "has changed"),
        ({"base": "absent"}, "base_not_found", "model", "absent"),
        ({"lora": LoraSpec(rank=64)}, "invalid_hyperparameters", "hyperparameters", "rank"),
        ({"lora": LoraSpec(target_modules=("w_proj",))}, "invalid_hyperparameters", "hyperparameters", "w_proj"),
        ({"training_file": "file-gone"}, "file_not_readable", "training_file", "file-gone"),
    ],
)
def test_a_job_that_cannot_succeed_fails_with_a_reason(
    registry: Registry, settings: TrainerSettings, make_job: MakeJob, fields: Any, code: str, param: str, said: str
) -> None:
    job = make_job(**fields)
    work(registry, settings)
    ended = registry.jobs.get(job.id)
    assert ended.state is JobState.FAILED
    assert ended.error is not None
    assert (ended.error.code, ended.error.param) == (code, param)
    assert said in ended.error.message
    assert registry.snapshot().revisions == ()


def test_a_job_that_kills_its_children_fails_in_the_end(
    registry: Registry, settings: TrainerSettings, make_job: MakeJob
) -> None:
    job = make_job(**LONG)
    with working(registry, settings.model_copy(update={"max_crashes": 1})) as (attempt, _):
        (child,) = wait_for(own_children, TIMEOUT_S)
        child.kill()
        attempt.result(TIMEOUT_S)
    ended = registry.jobs.get(job.id)
    assert ended.error is not None
    assert (ended.state, ended.error.code) == (JobState.FAILED, "trainer_crashed")
    assert "was killed by SIGKILL" in ended.error.message


def test_checkpoints_of_a_job_that_was_cancelled_while_it_waited_are_swept(
    registry: Registry, settings: TrainerSettings, make_job: MakeJob
) -> None:
    cancelled, waiting = make_job(), make_job()
    for job in (cancelled, waiting):
        (settings.work / job.id / "attempt-0001" / "checkpoint-2").mkdir(parents=True)
    registry.jobs.request_cancel(cancelled.id, "ann")
    Worker(registry, settings, "w1").sweep()
    assert [path.parent.parent.name for path in settings.work.glob("*/*/checkpoint-*")] == [waiting.id]


def test_a_worker_without_a_registry_says_so_and_ends(tmp_path: Path) -> None:
    environment = os.environ | {"LORRY_HOME": str(tmp_path)}
    environment.pop("LORRY_CONFIG", None)
    ended = subprocess.run(
        [sys.executable, "-m", "trainer"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert ended.returncode == 1
    assert "the trainer cannot start" in ended.stderr
