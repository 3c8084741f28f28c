"""When the jobs that wait come to their turn, as the queue, the workers and the running jobs are at this moment."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from threading import Lock
from typing import Final

import sqlalchemy as sa

from registry import tables
from registry.jobs.job_state import JobState
from registry.jobs.scheduling.dependencies import UNMET, dependencies_of
from registry.jobs.scheduling.forecast import DeviceRoom, HeldJob, QueuedJob, Turn, forecast
from registry.jobs.scheduling.tenant_uses import uses_of_tenants
from registry.jobs.scheduling.worker_store import workers_of
from registry.transactions import Transactions

USUAL_OF: Final = 20
"""How many of the newest jobs that succeeded tell how long a job takes of which nothing else is known."""
KEPT_FOR: Final = 20
"""So turns take a twentieth of a processor at most, however often they are asked for."""


class QueueTurns:
    """Reads the turns of all queued jobs; safe to call from many threads.

    A long queue takes a while to read and every client that follows a job asks again, so turns are kept for `KEPT_FOR`
    times as long as it took to find them.
    """

    def __init__(self, transactions: Transactions) -> None:
        self._tx = transactions
        self._lock = Lock()
        self._found: Mapping[str, Turn] = {}
        self._kept_until = -math.inf

    def read(self) -> Mapping[str, Turn]:
        """Return the turn of every queued job, by id."""
        with self._lock:
            began = self._tx.steady()
            if began >= self._kept_until:
                self._found = _turns_of_queue(self._tx)
                ended = self._tx.steady()
                self._kept_until = ended + KEPT_FOR * (ended - began)
            return self._found


def _turns_of_queue(transactions: Transactions) -> Mapping[str, Turn]:
    with transactions.read() as tx:
        now = transactions.now()
        usual_s = _usual_s(tx)
        waiting = _waiting(tx, usual_s)
        if not waiting:
            return {}
        running = _running(tx, usual_s)
        return forecast(waiting, running, _devices(tx, running), uses_of_tenants(tx, now), now)


def _devices(tx: sa.Connection, running: Sequence[HeldJob]) -> dict[str, DeviceRoom]:
    """Return the room of each known worker beside the jobs that it holds."""
    held: dict[str, list[int]] = {}
    for job in running:
        held.setdefault(job.worker, []).append(job.needed_bytes)
    return {
        worker.name: DeviceRoom(
            places=max(0, worker.places - len(held.get(worker.name, ()))),
            free_bytes=None if worker.total_bytes is None else worker.total_bytes - sum(held.get(worker.name, ())),
        )
        for worker in workers_of(tx)
    }


def _waiting(tx: sa.Connection, usual_s: float | None) -> list[QueuedJob]:
    jobs = tables.jobs.c
    facts = (jobs.id, jobs.priority, jobs.tenant, jobs.seq, jobs.expected_s, jobs.not_before, jobs.needed_bytes)
    columns = sa.select(*facts)
    is_queued = jobs.state == JobState.QUEUED
    rows = tx.execute(columns.where(is_queued)).all()
    blocked = tx.execute(sa.select(jobs.id).where(is_queued, UNMET)).scalars().all()
    edges = dependencies_of(tx, blocked) if blocked else {}
    return [
        QueuedJob(
            id=row.id,
            priority=row.priority,
            tenant=row.tenant,
            seq=row.seq,
            expected_s=usual_s if row.expected_s is None else row.expected_s,
            not_before=row.not_before,
            needed_bytes=row.needed_bytes,
            after=frozenset(each for each, state in edges.get(row.id, {}).items() if state is not JobState.SUCCEEDED),
        )
        for row in rows
    ]


def _running(tx: sa.Connection, usual_s: float | None) -> list[HeldJob]:
    """Return the running jobs, with their expected ends."""
    jobs = tables.jobs.c
    facts = (
        jobs.id,
        jobs.worker,
        jobs.estimated_finish,
        jobs.claimed_at,
        jobs.expected_s,
        jobs.needed_bytes,
        jobs.shared_bytes,
    )
    columns = sa.select(*facts)
    held, sharing = [], set[str]()
    for row in tx.execute(columns.where(jobs.state == JobState.RUNNING)):
        expected_s = usual_s if row.expected_s is None else row.expected_s
        ends_at = row.estimated_finish
        if ends_at is None and expected_s is not None and row.claimed_at is not None:
            ends_at = row.claimed_at + expected_s
        worker, needed = row.worker or "", row.needed_bytes or 0
        # What light jobs of a worker share counts for one of them.
        if row.shared_bytes and worker in sharing:
            needed -= row.shared_bytes
        sharing |= {worker} if row.shared_bytes else set()
        held.append(HeldJob(id=row.id, worker=worker, ends_at=ends_at, needed_bytes=needed))
    return held


def _usual_s(tx: sa.Connection) -> float | None:
    """Return the median time of the latest jobs that succeeded in one attempt; None where there was none."""
    jobs = tables.jobs.c
    whole = sa.and_(jobs.state == JobState.SUCCEEDED, jobs.attempt == 1)
    query = sa.select(jobs.finished_at - jobs.started_at).where(whole).order_by(jobs.finished_at.desc())
    found = tx.execute(query.limit(USUAL_OF)).scalars().all()
    return median(found) if found else None
