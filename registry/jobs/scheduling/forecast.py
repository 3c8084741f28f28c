"""When the turn of each waiting job is expected: the queue played forward with expected durations. Pure."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import itemgetter
from typing import Final

from registry.jobs.scheduling.tenant_uses import charge_s

NO_END: Final = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedJob:
    """The facts from which the order and the times of a waiting job follow."""

    id: str
    priority: int
    tenant: str
    seq: int
    expected_s: float | None
    """None where the time of such a job is unknown."""
    not_before: float
    after: frozenset[str] = frozenset()
    """Ids of the jobs that it waits for and that have not succeeded yet."""
    needed_bytes: int | None = None
    """None fits everywhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldJob:
    """A job that a worker holds."""

    id: str
    worker: str
    ends_at: float | None
    """None where it is unknown."""
    needed_bytes: int = 0


@dataclass(slots=True, kw_only=True)
class DeviceRoom:
    """The room that a worker's device has for further jobs, while the queue is played forward."""

    places: int
    """Further jobs that the worker would take now."""
    free_bytes: int | None
    """None where its memory is not known."""

    def holds(self, job: QueuedJob) -> bool:
        """Return whether the job can begin beside those that are there."""
        return job.needed_bytes is None or self.free_bytes is None or job.needed_bytes <= self.free_bytes

    def take(self, job: QueuedJob) -> None:
        """Count a job that begins."""
        self.places -= 1
        if self.free_bytes is not None:
            self.free_bytes -= job.needed_bytes or 0

    def give(self, needed_bytes: int) -> None:
        """Count a job that ended."""
        self.places += 1
        if self.free_bytes is not None:
            self.free_bytes += needed_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """The place of a waiting job in the queue, and when it is expected to begin and to end (unix seconds)."""

    place: int
    """1 for the job that begins next."""
    starts_at: float | None
    """None where the time of something before it is unknown, or no worker is known."""
    ends_at: float | None


@dataclass(slots=True)
class _Line:
    """The jobs of one priority and about one size that could begin, by owner."""

    uses: dict[str, float]
    """Shared by the lines of all priorities."""
    by_tenant: dict[str, list[tuple[int, QueuedJob]]] = field(default_factory=dict)
    order: list[tuple[float, int, str]] = field(default_factory=list)
    """A heap of (use of the owner, age of the oldest job, owner), corrected where an entry turns out to be old."""

    def put(self, job: QueuedJob) -> None:
        jobs = self.by_tenant.setdefault(job.tenant, [])
        heapq.heappush(jobs, (job.seq, job))
        if jobs[0][0] == job.seq:
            heapq.heappush(self.order, (self.uses.get(job.tenant, 0.0), job.seq, job.tenant))

    def first(self) -> tuple[float, int, QueuedJob] | None:
        """Return the use of the first job's owner, the job's age and the job; None without one."""
        while self.order:
            use, seq, tenant = self.order[0]
            jobs = self.by_tenant[tenant]
            present = self.uses.get(tenant, 0.0)
            if jobs and jobs[0][0] == seq and use >= present:
                return use, seq, jobs[0][1]
            heapq.heappop(self.order)
            # Uses only grow, so an old entry comes up too early and never too late.
            if jobs and jobs[0][0] == seq:
                heapq.heappush(self.order, (present, seq, tenant))
        return None

    def remove(self, job: QueuedJob) -> None:
        """Remove the job that `first` returned."""
        heapq.heappop(self.order)
        jobs = self.by_tenant[job.tenant]
        heapq.heappop(jobs)
        self.uses[job.tenant] = self.uses.get(job.tenant, 0.0) + charge_s(job.expected_s)
        if jobs:
            heapq.heappush(self.order, (self.uses[job.tenant], jobs[0][0], job.tenant))


class _Queue:
    """The jobs that could begin at a moment, and those that wait for a time or for other jobs."""

    def __init__(
        self, waiting: Iterable[QueuedJob], ends: Mapping[str, float | None], uses: Mapping[str, float]
    ) -> None:
        self._uses = dict(uses)
        self._lines: dict[tuple[int, int], _Line] = {}
        self._later: list[tuple[float, int, QueuedJob]] = []
        self._held: dict[str, set[str]] = {}
        self._ready_at: dict[str, float] = {}
        self._followers: dict[str, list[QueuedJob]] = {}
        self.left = {job.id: job for job in waiting}
        for job in self.left.values():
            self._held[job.id], self._ready_at[job.id] = set(job.after), job.not_before
            for first in job.after:
                self._followers.setdefault(first, []).append(job)
            if not job.after:
                self._wait(job)
        for job_id, at in ends.items():
            self.ended(job_id, at)

    def ended(self, job_id: str, at: float | None) -> None:
        """Let the jobs that waited for *job_id* alone begin from *at* on; None where its end is not known."""
        for job in self._followers.get(job_id, ()):
            if at is not None and job_id in self._held[job.id]:
                self._held[job.id].remove(job_id)
                self._ready_at[job.id] = max(self._ready_at[job.id], at)
                if not self._held[job.id]:
                    self._wait(job)

    def next_at(self, now: float, holds: Callable[[QueuedJob], bool]) -> QueuedJob | None:
        """Remove and return the first job that can begin at *now*, which never falls, and that *holds* room for."""
        while self._later and self._later[0][0] <= now:
            job = heapq.heappop(self._later)[2]
            self._lines.setdefault((job.priority, _size_class(job)), _Line(self._uses)).put(job)
        for _, lines in groupby(sorted(self._lines), key=itemgetter(0)):
            firsts = [(first, line) for line in lines if (first := self._lines[line].first()) and holds(first[2])]
            if firsts:
                (_, _, job), line = min(firsts, key=lambda each: each[0][:2])
                self._lines[line].remove(job)
                del self.left[job.id]
                return job
        return None

    def changes_at(self) -> float | None:
        """Return when the next of the jobs can begin that cannot yet; None where that is not known of any."""
        return self._later[0][0] if self._later else None

    def _wait(self, job: QueuedJob) -> None:
        heapq.heappush(self._later, (self._ready_at[job.id], job.seq, job))


def _size_class(job: QueuedJob) -> int:
    """Return a number that jobs of about the same size share: a step is a fifth more memory."""
    return 0 if not job.needed_bytes else round(math.log(job.needed_bytes, 1.2))


def forecast(
    waiting: Sequence[QueuedJob],
    running: Sequence[HeldJob],
    devices: Mapping[str, DeviceRoom],
    uses: Mapping[str, float],
    now: float,
) -> Mapping[str, Turn]:
    """Return the turn of each waiting job.

    *devices* has the room of each known worker beside the jobs that run; a worker that is not known takes one job when
    the one that it holds has ended. A job that finds no room lets those behind it go first, however long it waits.
    """
    rooms = {name: replace(room) for name, room in devices.items()}
    for held in running:
        rooms.setdefault(held.worker, DeviceRoom(places=0, free_bytes=None))
    queue = _Queue(
        waiting, {each.id: None if each.ends_at is None else max(now, each.ends_at) for each in running}, uses
    )
    # Moments at which a worker may have room: its name, and the bytes of the job that ended, or `NO_END`.
    moments = [(now, name, NO_END) for name in rooms]
    moments += [
        (max(now, each.ends_at), each.worker, each.needed_bytes) for each in running if each.ends_at is not None
    ]
    heapq.heapify(moments)
    turns: dict[str, Turn] = {}
    looked_at = {now}
    while moments:
        at, name, freed = heapq.heappop(moments)
        room = rooms[name]
        if freed != NO_END:
            room.give(freed)
        while room.places > 0 and (job := queue.next_at(at, room.holds)) is not None:
            ends_at = None if job.expected_s is None else at + job.expected_s
            turns[job.id] = Turn(place=len(turns) + 1, starts_at=at, ends_at=ends_at)
            queue.ended(job.id, ends_at)
            room.take(job)
            if ends_at is not None:
                heapq.heappush(moments, (ends_at, name, job.needed_bytes or 0))
        again = queue.changes_at()
        if again is not None and (later := max(at, again)) not in looked_at:
            looked_at.add(later)
            for idle in [each for each, its_room in rooms.items() if its_room.places > 0]:
                heapq.heappush(moments, (later, idle, NO_END))
    for left in sorted(queue.left.values(), key=lambda each: (bool(each.after), each.priority, each.seq)):
        turns[left.id] = Turn(place=len(turns) + 1, starts_at=None, ends_at=None)
    return turns
