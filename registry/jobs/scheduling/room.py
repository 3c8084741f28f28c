"""Room that a job needs of a device, and that a worker has. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

MOST_DEPENDENCIES: Final = 100
"""How many jobs one job may wait for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueEntry:
    """How a new job waits, beside what its spec holds."""

    after: tuple[str, ...] = ()
    """Ids of the jobs that must have succeeded before this one begins."""
    needed_bytes: int | None = None
    """Most memory of a device that the job is expected to take; None where nobody has estimated it."""
    shared_bytes: int = 0
    """The part of it that light jobs on one base model have once for all."""
    expected_s: float | None = None
    """How long the job is expected to take; None where nobody has estimated it."""


NO_ENTRY: Final = QueueEntry()


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Room that a worker's device has for further jobs. A memory of None is what the worker has reported, if it has."""

    total_bytes: int | None = None
    """Bytes that the device has for jobs while the worker holds none."""
    free_bytes: int | None = None
    """Bytes left beside the jobs that the worker holds; what it keeps only for later jobs counts as free."""
    resident: frozenset[str] = frozenset()
    """Digests of the bases that the worker has in memory."""
    beside: str | None = None
    """The digest of a base whose light jobs run in one process: only such a job is wanted, beside them."""
    only: str | None = None
    """Id of the one job that is wanted."""
    without: frozenset[str] = frozenset()
    """Ids of jobs that are not wanted."""


ANY_ROOM: Final = Room()


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerWorker:
    """A worker of the trainer with its device, as it last reported itself."""

    name: str
    device: str
    """The device for people: `cpu`, or the name of an accelerator."""
    total_bytes: int | None
    """Bytes that the device has for jobs while the worker holds none; None where that is not known."""
    free_bytes: int | None = None
    """Bytes left of them; the registry computes it from what the jobs need that the worker holds."""
    places: int = 1
    """How many jobs the worker takes at once, whatever they are."""
    started_at: float = 0.0
    """Set by the registry with the first report."""
    reported_at: float = 0.0
    """Set by the registry with each report."""

    def can_hold(self, needed_bytes: int | None) -> bool:
        """Return whether the job fits while the worker holds no other."""
        return needed_bytes is None or self.total_bytes is None or needed_bytes <= self.total_bytes


def can_hold_some(workers: Iterable[TrainerWorker], needed_bytes: int | None) -> bool:
    """Return whether one of *workers* can hold the job, or none is known."""
    known = list(workers)
    return not known or any(worker.can_hold(needed_bytes) for worker in known)
