"""When the turn of each waiting job is expected: the queue played forward with expected durations. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from registry.jobs.scheduling.tenant_uses import charge_s


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedJob:
    """The facts from which the order and the times of a waiting job follow."""

    id: str
    priority: int
    tenant: str
    seq: int
    expected_s: float | None
    """None where nobody knows how long such a job takes."""
    not_before: float
    after: frozenset[str] = frozenset()
    """Ids of the jobs that it waits for and that have not succeeded yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """The place of a waiting job in the queue, and when it is expected to begin and to end (unix seconds)."""

    place: int
    """1 for the job that begins next."""
    starts_at: float | None
    """None where something before it takes nobody knows how long, or no worker is known."""
    ends_at: float | None


@dataclass(slots=True)
class _Line:
    """The jobs of one priority that could begin, by owner."""

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

    def pop(self) -> QueuedJob | None:
        """Remove and return the first job; None without one."""
        while self.order:
            use, seq, tenant = heapq.heappop(self.order)
            jobs = self.by_tenant[tenant]
            if not jobs or jobs[0][0] != seq:
                continue
            present = self.uses.get(tenant, 0.0)
            if use < present:  # uses only grow, so an old entry comes up too early and never too late
                heapq.heappush(self.order, (present, seq, tenant))
                continue
            job = heapq.heappop(jobs)[1]
            self.uses[tenant] = present + charge_s(job.expected_s)
            if jobs:
                heapq.heappush(self.order, (self.uses[tenant], jobs[0][0], tenant))
            return job
        return None


class _Queue:
    """The jobs that could begin at a moment, and those that wait for a time or for other jobs."""

    def __init__(
        self, waiting: Iterable[QueuedJob], ends: Mapping[str, float | None], uses: Mapping[str, float]
    ) -> None:
        self._uses = dict(uses)
        self._lines: dict[int, _Line] = {}
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

    def next_at(self, now: float) -> QueuedJob | None:
        """Remove and return the first job that can begin at *now*, which never falls; None where none can."""
        while self._later and self._later[0][0] <= now:
            job = heapq.heappop(self._later)[2]
            self._lines.setdefault(job.priority, _Line(self._uses)).put(job)
        for priority in sorted(self._lines):
            if (found := self._lines[priority].pop()) is not None:
                del self.left[found.id]
                return found
        return None

    def changes_at(self) -> float | None:
        """Return when the next of the jobs can begin that cannot yet; None where that is not known of any."""
        return self._later[0][0] if self._later else None

    def _wait(self, job: QueuedJob) -> None:
        heapq.heappush(self._later, (self._ready_at[job.id], job.seq, job))


def forecast(
    waiting: Sequence[QueuedJob],
    running: Mapping[str, float | None],
    idle_places: int,
    uses: Mapping[str, float],
    now: float,
) -> Mapping[str, Turn]:
    """Return the turn of each waiting job.

    *running* has the expected end of each job that runs, None where nobody knows it; *idle_places* counts the further
    jobs that workers would take now.
    """
    queue = _Queue(waiting, {job_id: at if at is None else max(now, at) for job_id, at in running.items()}, uses)
    free = [*[now] * idle_places, *(max(now, at) for at in running.values() if at is not None)]
    heapq.heapify(free)
    turns: dict[str, Turn] = {}
    unused = 0
    while free:
        at = heapq.heappop(free)
        if (job := queue.next_at(at)) is None:
            unused += 1
        else:
            ends_at = None if job.expected_s is None else at + job.expected_s
            turns[job.id] = Turn(place=len(turns) + 1, starts_at=at, ends_at=ends_at)
            queue.ended(job.id, ends_at)
            if ends_at is not None:
                heapq.heappush(free, ends_at)
        if unused and (again := queue.changes_at()) is not None:
            for _ in range(unused):
                heapq.heappush(free, max(at, again))
            unused = 0
    for job in sorted(queue.left.values(), key=lambda each: (bool(each.after), each.priority, each.seq)):
        turns[job.id] = Turn(place=len(turns) + 1, starts_at=None, ends_at=None)
    return turns
