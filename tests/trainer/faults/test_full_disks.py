"""A disk that is full fails the job with that reason, at whatever place of the job it was filled."""

from __future__ import annotations

import fcntl
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from registry.database import Registry
from registry.jobs.job_phase import JobPhase
from registry.jobs.job_state import JobState
from tests.kills.asked import KINDS, Trained, chat
from tests.kills.phases import training_children
from tests.trainer.attempts import TIMEOUT_S, MakeJob, messages, queue, worker_process
from tests.waiting import wait_for

pytestmark = pytest.mark.trains

KIB = 1024
PISSA = Trained(name="pissa", method="supervised", rows=chat, hyperparameters={"lora_variant": "pissa"})
ONCE = {"n_epochs": 1, "checkpoint_steps": 50, "serve_checkpoints": "none"}
BRIEF = Trained(name="brief", method="supervised", rows=chat, hyperparameters=ONCE)
BRIEF_FULL = Trained(
    name="brief-full", method="supervised", rows=chat, hyperparameters={**ONCE, "weights": "full", "lora_rank": None}
)
BY_NAME = {kind.name: kind for kind in (*KINDS, PISSA, BRIEF, BRIEF_FULL) if isinstance(kind, Trained)}
"""The brief ones write one checkpoint, at their last step, and then their result."""


@contextmanager
def worker_on_small_disk(home: Path, size: int) -> Iterator[None]:
    """Run a worker whose folder of jobs is a file system of *size* bytes, which nobody else sees."""
    (home / "jobs").mkdir(exist_ok=True)
    config = home / "lorry.toml"
    config.write_text("[trainer]\nlease_s = 30.0\npoll_s = 0.1\n")
    environment = os.environ | {"LORRY_HOME": str(home), "LORRY_CONFIG": str(config)}
    mounts = ["--dev-bind", "/", "/", "--size", str(size), "--tmpfs", str(home / "jobs")]
    command = ["bwrap", "--die-with-parent", *mounts, sys.executable, "-m", "trainer"]
    with (home / "worker.log").open("ab") as log:
        worker = subprocess.Popen(command, env=environment, stderr=log)
    try:
        yield
    finally:
        worker.kill()
        worker.wait()


PLACES = {
    "order": ("lora", 4, "Fine-tuning job started"),
    "initial adapter": ("pissa", 48, "Fine-tuning job started"),
    "first checkpoint": ("lora", 96, "Fine-tuning job started"),
    "outputs in a checkpoint": ("grpo", 96, "Fine-tuning job started"),
    "later checkpoint": ("lora", 400, "Checkpoint saved at step"),
    "checkpoint of all weights": ("full", 600, "Checkpoint saved at step 2"),
    "result": ("brief", 150, "Checkpoint saved at step 3"),
    "result of all weights": ("brief-full", 560, "Checkpoint saved at step 3"),
}
"""The bytes that find the disk full -> kind of job, KiB of disk, and the last that the job had reported."""


@pytest.mark.parametrize("place", PLACES)
def test_a_full_disk_of_the_worker(registry: Registry, home: Path, place: str) -> None:
    kind, size, said = PLACES[place]
    job = queue(registry, BY_NAME[kind])
    with worker_on_small_disk(home, size * KIB):
        wait_for(lambda: registry.jobs.get(job.id).state.is_terminal, TIMEOUT_S)
    ended = registry.jobs.get(job.id)
    assert ended.error is not None, messages(registry, job.id)
    assert (ended.state, ended.error.code) == (JobState.FAILED, "storage_full"), ended.error.message
    assert any(said in message for message in messages(registry, job.id)[-3:-1])  # a kept step may answer meanwhile
    assert registry.snapshot().revisions == ()


def test_a_full_disk_of_the_registry(registry: Registry, make_job: MakeJob, home: Path) -> None:
    job = make_job(n_epochs=1)
    path = home / "artifacts" / "lock"
    with path.open("w") as lock, worker_process(home) as worker:
        wait_for(lambda: [*training_children(worker.pid)], TIMEOUT_S)
        fcntl.flock(lock, fcntl.LOCK_EX)  # the worker waits for it before it copies the result
        # The phase is the last that is written before the publication. Had it to wait for room, the publication would
        # wait with it, and the job would succeed once there is room.
        wait_for(lambda: registry.jobs.get(job.id).phase is JobPhase.PUBLISHING, TIMEOUT_S)
        resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (2 * KIB, resource.RLIM_INFINITY))
        staging = home / "artifacts" / "staging"
        before = staging.stat().st_mtime_ns
        fcntl.flock(lock, fcntl.LOCK_UN)
        wait_for(lambda: staging.stat().st_mtime_ns != before and not [*staging.iterdir()], TIMEOUT_S)
        assert registry.jobs.get(job.id).state is JobState.RUNNING, "its end needs room too, for which the worker waits"
        resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        wait_for(lambda: registry.jobs.get(job.id).state.is_terminal, TIMEOUT_S)
    ended = registry.jobs.get(job.id)
    assert ended.error is not None
    assert (ended.state, ended.error.code) == (JobState.FAILED, "storage_full"), ended.error.message
    assert registry.snapshot().revisions == ()
    assert [*(home / "artifacts" / "folders").iterdir()] == []
