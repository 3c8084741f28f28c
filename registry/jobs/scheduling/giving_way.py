"""Running jobs that stop at a checkpoint for a waiting one of a higher priority, and go on later.

Only a strictly higher priority displaces a job, so that two jobs never take a place from each other in turns. A job is
asked `MOST_TIMES` at most, and not before its attempt has run for a while, so that it comes further each time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from registry import tables
from registry.jobs.job import Job
from registry.jobs.job_moves import JobNote, add_note, job_of
from registry.jobs.job_phase import JobPhase
from registry.jobs.job_state import JobState
from registry.jobs.scheduling.claims import ready
from registry.jobs.scheduling.room import TrainerWorker
from registry.jobs.scheduling.worker_store import workers_of
from registry.transactions import Transactions

MOST_TIMES: Final = 3
"""How many times a job gives way before nothing displaces it any more."""
WAITED_S: Final = 5.0
"""How long a job waits before another one is asked to give way: an idle worker claims it earlier."""
LOOKED_AT: Final = 50
"""So many of the waiting jobs, the first ones, are looked at."""
_AT_ITS_END: Final = frozenset({JobPhase.FINISHING, JobPhase.PUBLISHING})


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveWayRules:
    """When a running job may be asked to give way."""

    least_run_s: float
    """The attempt has run for at least so long."""
    least_left_s: float
    """The job is expected to take at least so long still."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingJob:
    """A job that waits for nothing but a worker."""

    id: str
    priority: int
    """Lower is more urgent."""
    needed_bytes: int | None
    queued_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningJob:
    """A job that a worker holds."""

    id: str
    priority: int
    worker: str
    needed_bytes: int | None
    """Memory that is free once the job alone has gone."""
    claimed_at: float
    may_be_asked: bool
    gives_way_to: str | None


@dataclass(slots=True, kw_only=True)
class _Device:
    """The room that a worker has left, and the jobs that it holds."""

    places: int
    total_bytes: int | None
    free_bytes: int | None
    jobs: list[RunningJob]

    def can_take(self, needed_bytes: int | None, without: Sequence[RunningJob] = ()) -> bool:
        """Return whether a further job fits once the jobs *without* have gone."""
        if self.places + len(without) < 1:
            return False
        if needed_bytes is None or self.total_bytes is None or self.free_bytes is None:
            return True
        if len(without) == len(self.jobs):
            return needed_bytes <= self.total_bytes
        return needed_bytes <= self.free_bytes + sum(each.needed_bytes or 0 for each in without)

    def give(self, needed_bytes: int | None) -> None:
        """Count a job that will be claimed."""
        self.places -= 1
        if self.free_bytes is not None:
            self.free_bytes -= needed_bytes or 0


def choose_to_give_way(
    waiting: Iterable[WaitingJob], running: Sequence[RunningJob], workers: Iterable[TrainerWorker], now: float
) -> Mapping[str, str]:
    """Return the ids of the running jobs that are to give way -> the id of the job that each gives way to. Pure."""
    devices = _devices(running, workers)
    awaited = {each.gives_way_to for each in running}
    chosen: dict[str, str] = {}
    for job in waiting:
        free = next((each for each in devices if each.can_take(job.needed_bytes)), None)
        if free is not None:
            free.give(job.needed_bytes)
        elif job.id not in awaited and now - job.queued_at >= WAITED_S:
            sets = [found for device in devices if (found := _fewest(device, job, chosen))]
            # The fewest jobs, of those the least urgent, of those the ones that have run for the shortest time.
            best = min(sets, key=lambda each: (len(each), -each[0].priority, -each[0].claimed_at), default=[])
            chosen |= {victim.id: job.id for victim in best}
    return chosen


def _devices(running: Sequence[RunningJob], workers: Iterable[TrainerWorker]) -> list[_Device]:
    held: dict[str, list[RunningJob]] = {}
    for job in running:
        held.setdefault(job.worker, []).append(job)
    known = [
        _Device(
            places=worker.places - len(held.get(worker.name, [])),
            total_bytes=worker.total_bytes,
            free_bytes=worker.free_bytes,
            jobs=held.pop(worker.name, []),
        )
        for worker in workers
    ]
    # A worker that never reported takes one job at a time.
    return known + [_Device(places=0, total_bytes=None, free_bytes=None, jobs=jobs) for jobs in held.values()]


def _fewest(device: _Device, job: WaitingJob, chosen: Mapping[str, str]) -> list[RunningJob]:
    """Return the fewest jobs of the device whose end makes room for *job*; empty where that is impossible."""
    askable = [
        each for each in device.jobs if each.may_be_asked and each.priority > job.priority and each.id not in chosen
    ]
    asked: list[RunningJob] = []
    for each in sorted(askable, key=lambda one: (-one.priority, -one.claimed_at)):
        asked.append(each)
        if device.can_take(job.needed_bytes, asked):
            return asked
    return []


def ask_to_give_way(transactions: Transactions, rules: GiveWayRules) -> Mapping[str, str]:
    """Ask running jobs to give way where a job of a higher priority finds no room otherwise.

    Return their ids -> the id of the job that each gives way to.
    """
    jobs = tables.jobs.c
    with transactions.read() as tx:
        now = transactions.now()
        is_running = jobs.state == JobState.RUNNING
        lowest = tx.execute(sa.select(sa.func.max(jobs.priority)).where(is_running)).scalar()
        # The index of the queue begins with the priority: most often this look is all.
        priorities = sa.select(jobs.priority).where(jobs.state == JobState.QUEUED).order_by(jobs.priority).limit(1)
        highest = tx.execute(priorities).scalar()
        if lowest is None or highest is None or highest >= lowest:
            return {}
        columns = sa.select(jobs.id, jobs.priority, jobs.needed_bytes, jobs.queued_at)
        higher = columns.where(ready(now), jobs.priority < lowest).order_by(jobs.priority, jobs.seq).limit(LOOKED_AT)
        waiting = [WaitingJob(**row) for row in tx.execute(higher).mappings()]
        if not waiting:
            return {}
        rows = tx.execute(sa.select(tables.jobs).where(is_running)).mappings().all()
        running = [_running(job_of(row), row["priority"], rules, now) for row in rows]
        attempts = {row["id"]: row["attempt"] for row in rows}
        chosen = choose_to_give_way(waiting, running, workers_of(tx), now)
    return {victim: job_id for victim, job_id in chosen.items() if _ask(transactions, victim, attempts[victim], job_id)}


def _running(job: Job, priority: int, rules: GiveWayRules, now: float) -> RunningJob:
    claimed_at = now if job.claimed_at is None else job.claimed_at
    left_s = _left_s(job, claimed_at, now)
    is_asked = job.cancel_requested or job.pause_requested or job.gives_way_to is not None
    may_stop = job.spec.stops_at_checkpoints and job.phase not in _AT_ITS_END and job.gave_way < MOST_TIMES
    is_long = now - claimed_at >= rules.least_run_s and (left_s is None or left_s >= rules.least_left_s)
    return RunningJob(
        id=job.id,
        priority=priority,
        worker=job.worker or "",
        # What light jobs share is free only once all of them have gone, and then the whole device is.
        needed_bytes=None if job.needed_bytes is None else job.needed_bytes - job.shared_bytes,
        claimed_at=claimed_at,
        may_be_asked=may_stop and is_long and not is_asked,
        gives_way_to=job.gives_way_to,
    )


def _left_s(job: Job, claimed_at: float, now: float) -> float | None:
    """Return how long the job is expected to take still; None where that is unknown, or over what was expected."""
    if job.estimated_finish is not None:
        return max(0.0, job.estimated_finish - now)
    if job.expected_s is None or claimed_at + job.expected_s < now:
        return None
    return claimed_at + job.expected_s - now


def _ask(transactions: Transactions, job_id: str, attempt: int, for_job: str) -> bool:
    """Ask the job if it still runs the attempt that was looked at; return whether it was asked."""
    jobs = tables.jobs.c
    with transactions.write() as tx:
        unasked = sa.and_(~jobs.cancel_requested, ~jobs.pause_requested, jobs.gives_way_to.is_(None))
        still = sa.and_(jobs.id == job_id, jobs.attempt == attempt, jobs.state == JobState.RUNNING, unasked)
        asked = sa.update(tables.jobs).where(still).values(gives_way_to=for_job, gave_way=jobs.gave_way + 1)
        if tx.execute(asked).rowcount != 1:
            return False
        # The other job may be another tenant's, so its id is not told.
        note = JobNote(message="Asked to give way at a checkpoint to a job of a higher priority")
        add_note(tx, job_id, note, transactions.now())
        return True
