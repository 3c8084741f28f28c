"""The placer has one job at most wait for the cluster, and it is the first of the queue."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from registry.contracts.methods.supervised_spec import SupervisedSpec
from registry.database import Registry
from registry.jobs.job import Job
from registry.jobs.job_state import JobState
from registry.jobs.scheduling.room import QueueEntry, Room, TrainerWorker
from registry.states import Priority
from trainer.placed.placer import Placer
from trainer.placed.resources import Cluster, node_workers, resources_of

GB = 10**9


class ScriptedJob:
    """A job in a cluster whose room a test decides."""

    def __init__(self) -> None:
        self.begun = False
        self.ended = False
        self.is_withdrawn = False

    def has_begun(self) -> bool:
        """True once the test has given it room."""
        return self.begun

    def has_ended(self) -> bool:
        """True once the test has ended it."""
        return self.ended

    def stop(self) -> None:
        """Nothing to stop."""

    def withdraw(self) -> None:
        """Note it."""
        self.is_withdrawn = True


class ScriptedCluster:
    """A cluster of one node with 8 GB that is always full: Ray cannot be made to be at a chosen moment."""

    def __init__(self) -> None:
        self.jobs: dict[str, ScriptedJob] = {}

    def workers(self) -> Sequence[TrainerWorker]:
        """The node."""
        return [TrainerWorker(name="ray-1", device="cpu", total_bytes=8 * GB, places=4)]

    def place(self, job: Job) -> ScriptedJob:
        """Take the job."""
        return self.jobs.setdefault(job.id, ScriptedJob())


@pytest.fixture
def cluster() -> ScriptedCluster:
    return ScriptedCluster()


@pytest.fixture
def placer(sqlite_registry: Registry, cluster: ScriptedCluster) -> Placer:
    return Placer(sqlite_registry, cluster)


def test_the_next_job_is_placed_once_the_one_before_has_room(
    sqlite_registry: Registry, placer: Placer, cluster: ScriptedCluster, spec: SupervisedSpec
) -> None:
    first, second = (sqlite_registry.jobs.create(spec, "ann").id for _ in range(2))
    for _ in range(2):
        placer.step()
        assert [*placer.placed] == [first]
    cluster.jobs[first].begun = True
    placer.step()
    assert [*placer.placed] == [first, second]
    lease = sqlite_registry.jobs.claim("ray-1", 30.0, Room(only=first))
    assert lease is not None
    sqlite_registry.jobs.finish(lease, JobState.FAILED)
    cluster.jobs[first].ended = True
    placer.step()
    assert [*placer.placed] == [second]


def test_a_more_urgent_job_takes_the_place_in_the_line(
    sqlite_registry: Registry, placer: Placer, cluster: ScriptedCluster, spec: SupervisedSpec
) -> None:
    first = sqlite_registry.jobs.create(spec, "ann").id
    placer.step()
    urgent = sqlite_registry.jobs.create(spec.model_copy(update={"priority": Priority.HIGH}), "ann").id
    placer.step()
    assert [*placer.placed] == [urgent]
    assert cluster.jobs[first].is_withdrawn
    sqlite_registry.jobs.request_cancel(urgent, "ann")
    placer.step()
    assert [*placer.placed] == [first]


def test_a_job_that_no_node_could_hold_keeps_no_other_from_its_place(
    sqlite_registry: Registry, placer: Placer, spec: SupervisedSpec
) -> None:
    sqlite_registry.jobs.create(spec, "ann", entry=QueueEntry(needed_bytes=9 * GB))
    small = sqlite_registry.jobs.create(spec, "ann", entry=QueueEntry(needed_bytes=2 * GB)).id
    placer.report()
    placer.step()
    assert [*placer.placed] == [small]
    assert [worker.name for worker in sqlite_registry.workers.list()] == ["ray-1"]
    placer.leave()
    assert sqlite_registry.workers.list() == []


CPUS = Cluster(threads=2, has_gpus=False, gpu_bytes=None)
GPUS = Cluster(threads=2, has_gpus=True, gpu_bytes=80 * GB)


@pytest.mark.parametrize(
    ("needed", "cluster", "wanted"),
    [
        (None, CPUS, {"num_cpus": 2}),
        (3 * GB, CPUS, {"num_cpus": 2, "memory": 3 * GB}),
        (20 * GB, GPUS, {"num_cpus": 2, "num_gpus": 0.25}),
        (20 * GB + 1, GPUS, {"num_cpus": 2, "num_gpus": 0.26}),
        (200 * GB, GPUS, {"num_cpus": 2, "num_gpus": 1.0}),
        (None, GPUS, {"num_cpus": 2, "num_gpus": 1.0}),
        (20 * GB, Cluster(threads=2, has_gpus=True, gpu_bytes=None), {"num_cpus": 2, "num_gpus": 1.0}),
    ],
)
def test_a_job_takes_the_part_of_a_node_that_it_needs(
    needed: int | None, cluster: Cluster, wanted: dict[str, float]
) -> None:
    assert resources_of(needed, cluster) == wanted


def test_nodes_are_workers_with_their_memory() -> None:
    nodes = [
        {"NodeID": "a" * 40, "Alive": True, "Resources": {"CPU": 5.0, "memory": 6.0 * GB}},
        {"NodeID": "b" * 40, "Alive": False, "Resources": {"CPU": 4.0, "memory": 6.0 * GB}},
        {"NodeID": "c" * 40, "Alive": True, "Resources": {"CPU": 1.0, "memory": 6.0 * GB}},
        {"NodeID": "d" * 40, "Alive": True, "Resources": {"CPU": 8.0, "GPU": 2.0}},
    ]
    found = [(each.name, each.device, each.total_bytes, each.places) for each in node_workers(nodes, CPUS)]
    assert found == [("ray-" + "a" * 12, "cpu", 6 * GB, 2), ("ray-" + "d" * 12, "cpu", None, 4)]
    (gpu,) = node_workers(nodes, GPUS)
    assert (gpu.name, gpu.device, gpu.total_bytes, gpu.places) == ("ray-" + "d" * 12, "2 GPU", 80 * GB, 4)
