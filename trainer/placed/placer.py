"""Gives the first jobs of the queue to a cluster, one after the other, as it has room."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final, Protocol

from registry.database import Registry
from registry.jobs.job import Job
from registry.jobs.scheduling.room import Room, TrainerWorker

log = logging.getLogger(__name__)

PLACER: Final = "ray-placer"


class PlacedJob(Protocol):
    """A job that was given to a cluster."""

    def has_begun(self) -> bool:
        """Return whether there was room, so that a worker is at the job."""
        ...

    def has_ended(self) -> bool:
        """Return whether its worker has ended, or is lost."""
        ...

    def stop(self) -> None:
        """Have a job that has begun stop at a checkpoint."""
        ...

    def withdraw(self) -> None:
        """Give its place back, or leave the line for one."""
        ...


class JobCluster(Protocol):
    """A cluster that has places for jobs."""

    def workers(self) -> Sequence[TrainerWorker]:
        """Return its nodes."""
        ...

    def place(self, job: Job) -> PlacedJob:
        """Ask for a place for the job, and begin it there."""
        ...


class Placer:
    """Has at most one job wait for a place in the cluster, the first of the queue; the others wait in the registry."""

    def __init__(self, registry: Registry, cluster: JobCluster) -> None:
        self._registry = registry
        self._cluster = cluster
        self.placed: dict[str, PlacedJob] = {}
        """The jobs that the cluster has, by id."""
        self._reported: set[str] = set()

    def step(self) -> None:
        """Forget the jobs that have ended, and give the cluster the first one if it has room for those before."""
        for job_id, placed in [*self.placed.items()]:
            if placed.has_ended():
                placed.withdraw()
                del self.placed[job_id]
        begun = frozenset(job_id for job_id, placed in self.placed.items() if placed.has_begun())
        first = self._registry.jobs.first(PLACER, Room(total_bytes=self._largest(), without=begun))
        for job_id in self.placed.keys() - begun:
            if first is not None and first.id == job_id:
                return
            # A more urgent job came, or somebody paused or cancelled this one.
            self.placed.pop(job_id).withdraw()
        if first is not None:
            log.info("job given to Ray", extra={"job": first.id, "needed_bytes": first.needed_bytes})
            self.placed[first.id] = self._cluster.place(first)

    def report(self) -> None:
        """Report the nodes as workers, so that jobs which none of them could hold are refused."""
        workers = self._cluster.workers()
        for worker in workers:
            self._registry.workers.report(worker)
        names = {worker.name for worker in workers}
        for name in self._reported - names:
            self._registry.workers.leave(name)
        self._reported = names

    def leave(self) -> None:
        """Have the registry forget the nodes."""
        for name in self._reported:
            self._registry.workers.leave(name)

    def _largest(self) -> int | None:
        """Return the memory of the largest node; None where one was not measured. A larger job would wait for ever."""
        totals = [worker.total_bytes for worker in self._cluster.workers()]
        known = [total for total in totals if total is not None]
        return max(known) if known and len(known) == len(totals) else None
