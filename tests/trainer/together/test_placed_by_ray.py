"""On a Ray cluster of two nodes, Ray places the processes of a job; they end with it, and it goes on without one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil
import pytest

from registry.contracts.job_spec import LoraSpec
from registry.contracts.parallel_spec import ParallelSpec
from registry.database import Registry
from registry.errors import JobTooLarge
from registry.jobs.job import Job
from registry.jobs.job_state import JobState
from registry.jobs.scheduling.room import QueueEntry
from tests.trainer.attempts import (
    LONG,
    TIMEOUT_S,
    MakeJob,
    is_training,
    loss_curve,
    messages,
    stored_step,
    training_children,
    work,
    working,
)
from tests.waiting import wait_for
from trainer.settings import TrainerSettings

# Continuous integration leaves out those that are marked `same_bytes`: the processes of each job import for seconds.
pytestmark = pytest.mark.trains

THIS: Final = psutil.Process()
TWO: Final = {"parallel": ParallelSpec(processes=2), "lora": LoraSpec(rank=4, alpha=8)}
NODES: Final = """
import sys
from ray.cluster_utils import Cluster

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
cluster.add_node(num_cpus=1)
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""
"""Two nodes with room for one process each, until its input is closed."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of the cluster."""
    with pytest.MonkeyPatch.context() as environment, _nodes(environment) as nodes:
        assert nodes.stdin is not None and nodes.stdout is not None
        started = psutil.Process(nodes.pid)
        try:
            yield nodes.stdout.readline().decode().strip()
        finally:
            left = started.children(recursive=True)
            nodes.stdin.close()
            try:
                nodes.wait(TIMEOUT_S)
            finally:
                for process in left:
                    if process.is_running():
                        process.kill()


def _nodes(environment: pytest.MonkeyPatch) -> subprocess.Popen[bytes]:
    """Start the nodes; *environment* is that of the workers too, which connect to them."""
    environment.setenv("RAY_AUTH_MODE", "disabled")
    environment.setenv("RAY_USAGE_STATS_ENABLED", "0")
    program = [sys.executable, "-c", NODES]
    return subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


@pytest.fixture
def on_ray(settings: TrainerSettings, cluster: str) -> TrainerSettings:
    """Settings of a worker that has Ray place processes."""
    return settings.model_copy(update={"placement": "ray", "ray_address": cluster})


def placed_processes() -> list[psutil.Process]:
    """Return the training processes that no worker and no child of a worker has started."""
    own = {child.pid for child in training_children(THIS)}
    return [each for each in psutil.process_iter() if is_training(each) and each.pid not in own and has_actor(each)]


def has_actor(process: psutil.Process) -> bool:
    """Whether *process* was started by an actor of Ray."""
    with suppress(psutil.Error):  # either may end at any moment
        parent = process.parent()
        return parent is not None and "RankActor" in " ".join(parent.cmdline())
    return False


def ended(registry: Registry, job: Job) -> Job:
    return registry.jobs.get(job.id)


def test_processes_on_two_nodes_train_what_two_of_the_worker_would(
    registry: Registry, settings: TrainerSettings, on_ray: TrainerSettings, make_job: MakeJob
) -> None:
    here, there = make_job(**TWO), make_job(**TWO)
    work(registry, settings)
    work(registry, on_ray)
    assert [ended(registry, job).state for job in (here, there)] == [JobState.SUCCEEDED] * 2, ended(registry, there)
    assert loss_curve(registry, there.id) == loss_curve(registry, here.id)
    first, second = registry.adapters.revisions("support")
    assert first.artifact == second.artifact
    wait_for(lambda: placed_processes() == [], TIMEOUT_S)


@pytest.mark.same_bytes
def test_a_job_goes_on_when_the_actor_of_a_process_was_killed(
    registry: Registry, on_ray: TrainerSettings, make_job: MakeJob
) -> None:
    job = make_job(**LONG, **TWO)
    folder = on_ray.work / job.id
    with working(registry, on_ray) as (attempt, _):
        wait_for(lambda: stored_step(folder) > 0, TIMEOUT_S)
        (placed,) = placed_processes()
        actor = placed.parent()
        assert actor is not None
        actor.kill()
        attempt.result(TIMEOUT_S)
    assert any("process 1 of the job ended with -9" in message for message in messages(registry, job.id))
    assert ended(registry, job).state is JobState.QUEUED
    work(registry, on_ray)
    assert (ended(registry, job).state, ended(registry, job).attempt) == (JobState.SUCCEEDED, 2)


@pytest.mark.same_bytes
def test_no_process_outlives_a_job_that_is_cancelled_or_stopped(
    registry: Registry, on_ray: TrainerSettings, make_job: MakeJob
) -> None:
    job = make_job(**LONG, **TWO)
    folder = on_ray.work / job.id
    with working(registry, on_ray) as (attempt, stop):
        wait_for(lambda: stored_step(folder) > 0, TIMEOUT_S)
        stop.set()
        attempt.result(TIMEOUT_S)
    assert ended(registry, job).state is JobState.QUEUED
    wait_for(lambda: placed_processes() == [], TIMEOUT_S)
    stopped_at = stored_step(folder)
    with working(registry, on_ray) as (attempt, _):
        wait_for(lambda: stored_step(folder) > stopped_at, TIMEOUT_S)
        registry.jobs.request_cancel(job.id, "ann")
        attempt.result(TIMEOUT_S)
    assert ended(registry, job).state is JobState.CANCELLED
    wait_for(lambda: placed_processes() == [], TIMEOUT_S)


def test_more_processes_than_the_cluster_could_have_are_refused_by_the_number(
    registry: Registry, on_ray: TrainerSettings, make_job: MakeJob
) -> None:
    job = make_job(batch_size=6, parallel=ParallelSpec(processes=3))
    work(registry, on_ray)
    error = ended(registry, job).error
    assert error is not None
    assert (error.code, error.message) == (
        "no_room",
        "the Ray cluster could have 2 processes of 1 CPUs, and the job asks for processes 3",
    )


@pytest.fixture
def placer(home: Path, cluster: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that gives the jobs of the queue to the cluster."""
    config = home / "lorry.toml"
    config.write_text(f'[trainer]\npoll_s = 0.1\nlease_s = 20.0\nray_address = "{cluster}"\n')
    environment = os.environ | {"LORRY_HOME": str(home), "LORRY_CONFIG": str(config)}
    process = subprocess.Popen([sys.executable, "-m", "trainer.placed"], env=environment, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_jobs_are_placed_on_the_nodes_with_room_and_come_back_when_the_placer_stops(
    registry: Registry, settings: TrainerSettings, make_job: MakeJob, placer: subprocess.Popen[bytes]
) -> None:
    long = make_job(**LONG)
    brief = long.spec.model_copy(update={"n_epochs": 1})
    short = registry.jobs.create(brief, "ann", entry=QueueEntry(needed_bytes=1_000_000))
    wait_for(lambda: registry.jobs.get(short.id).state is JobState.SUCCEEDED, TIMEOUT_S)
    nodes = {worker.name for worker in registry.workers.list()}
    assert len(nodes) == 2
    started = messages(registry, short.id)
    assert any(f"Started by worker {name}" in started for name in nodes), started
    with pytest.raises(JobTooLarge, match=r"cpu has .* GB"):
        registry.jobs.create(short.spec, "ann", entry=QueueEntry(needed_bytes=10**18))
    wait_for(lambda: stored_step(settings.work / long.id) > 0, TIMEOUT_S)
    placer.terminate()
    assert placer.wait(TIMEOUT_S) == 0
    ended = registry.jobs.get(long.id)
    assert ended.state in (JobState.QUEUED, JobState.SUCCEEDED), ended
    assert any("Released by worker ray-" in text for text in messages(registry, long.id)) or ended.attempt == 1
    assert registry.workers.list() == []
