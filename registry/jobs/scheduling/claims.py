"""The choice of the job that a worker gets, and its claim.

Jobs are ordered by priority, then by the use of their owner (`tenant_uses`), then by age. Among the jobs of
one owner, those on a base that the worker has in memory come first, until another one has waited for `PASSED_S`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any, Final

import sqlalchemy as sa

from registry import tables
from registry.jobs.job import Job, Lease
from registry.jobs.job_moves import JobMove, JobNote, job_of, move_job
from registry.jobs.job_phase import JobPhase
from registry.jobs.job_state import JobState
from registry.jobs.lease_expiry import LONGEST_PAUSE_S
from registry.jobs.scheduling.dependencies import UNMET
from registry.jobs.scheduling.queue_tables import trainer_workers
from registry.jobs.scheduling.room import Room
from registry.jobs.scheduling.tenant_uses import uses_of_tenants
from registry.jobs.scheduling.worker_store import room_of
from registry.transactions import Transactions

PASSED_S: Final = 600.0
"""For so long others may go before a job because their base is in memory, or because they need less room."""


class Fit(IntEnum):
    """Whether a job can begin on the worker's device now."""

    NOW = 0
    OVERDUE = 1  # no room yet, and others went before it for long enough
    PROMISED = 2  # no room yet, and a job of this worker gives way to it
    APART = 3  # the worker wants only jobs that share the process of those which it has


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The oldest of the jobs that wait alike."""

    priority: int
    tenant: str
    passed_over: int
    """0 for jobs that no other job of the tenant goes before: of a base in memory, or old enough."""
    fit: Fit
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimant:
    """A worker that asks for a job."""

    worker: str
    lease_s: float
    room: Room


def in_order(heads: list[Head], uses: Mapping[str, float]) -> Iterator[Head]:
    """Yield *heads* in the order in which their jobs are claimed. Pure."""
    oldest: dict[tuple[int, str], int] = {}
    for head in heads:
        key = (head.priority, head.tenant)
        oldest[key] = min(head.seq, oldest.get(key, head.seq))

    def place(head: Head) -> tuple[float, ...]:
        # Owners of the same use, most often none, go by the age of their oldest job.
        first = oldest[head.priority, head.tenant]
        return (head.priority, uses.get(head.tenant, 0.0), first, head.passed_over, head.seq)

    yield from sorted(heads, key=place)


def claim_next(transactions: Transactions, claimant: Claimant) -> Lease | None:
    """Give the claimant the first job that it has room for, or None where there is none."""
    while True:
        # Looked for in a transaction that only reads: idle workers ask every second, and SQLite has one writer.
        with transactions.read() as tx:
            seq = _first(tx, claimant, transactions.now())
        if seq is None:
            return None
        with transactions.write() as tx:
            lease = _claim(tx, claimant, seq, transactions.now())
        # Without a lease another worker was faster, or somebody paused or cancelled the job: look again.
        if lease is not None:
            return lease


def first_for(transactions: Transactions, worker: str, room: Room) -> Job | None:
    """Return the job that the worker would get, without claiming it; None where there is none."""
    with transactions.read() as tx:
        seq = _first(tx, Claimant(worker=worker, lease_s=0.0, room=room), transactions.now())
        row = None if seq is None else tx.execute(sa.select(tables.jobs).where(tables.jobs.c.seq == seq)).mappings()
        return None if row is None else job_of(row.one())


def ready(now: float) -> sa.ColumnElement[bool]:
    """Return the condition of jobs that wait for nothing but a worker."""
    jobs = tables.jobs.c
    # A pause that lasts longer than any was written by a clock that was set back since.
    may_begin = sa.or_(jobs.not_before <= now, jobs.not_before > now + LONGEST_PAUSE_S)
    return sa.and_(jobs.state == JobState.QUEUED, may_begin, ~UNMET)


def heads_of(tx: sa.Connection, claimant: Claimant, now: float) -> list[Head]:
    """Return the oldest job of each group of jobs that wait alike and fit on the claimant's device in the end."""
    jobs, room = tables.jobs.c, claimant.room
    conditions = [ready(now)]
    if room.only is not None:
        conditions.append(jobs.id == room.only)
    if room.without:
        conditions.append(jobs.id.not_in(sorted(room.without)))
    if room.total_bytes is not None:
        conditions.append(_within(tables.jobs.c.needed_bytes, room.total_bytes))
    is_overdue, fit = jobs.queued_at < now - PASSED_S, _fit(claimant, now)
    passed_over = sa.case((sa.or_(is_overdue, jobs.base_digest.in_(sorted(room.resident))), 0), else_=1)
    groups = sa.select(
        jobs.priority,
        jobs.tenant,
        passed_over.label("passed_over"),
        fit.label("fit"),
        sa.func.min(jobs.seq).label("seq"),
    )
    query = groups.where(*conditions).group_by(jobs.priority, jobs.tenant, sa.text("passed_over"), sa.text("fit"))
    rows = tx.execute(query).mappings()
    return [Head(**(dict(row) | {"fit": Fit(row["fit"])})) for row in rows if row["fit"] is not None]


def _within(needed: sa.ColumnElement[int | None], limit: int) -> sa.ColumnElement[bool]:
    return sa.or_(needed.is_(None), needed <= limit)


def _needed_beside(room: Room) -> sa.ColumnElement[int | None]:
    """Return the expression of what a job takes beside those of the worker: of a light one not what all share."""
    jobs = tables.jobs.c
    # Those that may not join are apart, whatever they need.
    return jobs.needed_bytes if room.beside is None else jobs.needed_bytes - jobs.shared_bytes


def _fit(claimant: Claimant, now: float) -> sa.ColumnElement[int | None]:
    """Return the expression of a job's `Fit`, NULL for one that waits for room in its turn."""
    room, jobs = claimant.room, tables.jobs.c
    is_overdue = jobs.queued_at < now - PASSED_S
    cases: list[tuple[sa.ColumnElement[bool], int]] = []
    if room.beside is not None:
        is_apart = ~sa.and_(jobs.base_digest == room.beside, jobs.is_light)
        cases += [(sa.and_(is_apart, is_overdue), int(Fit.OVERDUE)), (is_apart, int(Fit.APART))]
    if room.free_bytes is not None:
        victims = tables.jobs.alias("victims")
        promised = sa.select(victims.c.gives_way_to).where(
            victims.c.state == JobState.RUNNING,
            victims.c.worker == claimant.worker,
            victims.c.gives_way_to.is_not(None),
        )
        is_large = ~_within(_needed_beside(room), room.free_bytes)
        cases += [
            (sa.and_(is_large, jobs.id.in_(promised)), int(Fit.PROMISED)),
            (sa.and_(is_large, is_overdue), int(Fit.OVERDUE)),
        ]
        return sa.case(*cases, (is_large, sa.null()), else_=int(Fit.NOW))
    return sa.case(*cases, else_=int(Fit.NOW)) if cases else sa.literal_column(str(int(Fit.NOW)))


def _first(tx: sa.Connection, claimant: Claimant, now: float) -> int | None:
    claimant = replace(claimant, room=room_of(tx, claimant.worker, claimant.room))
    heads = heads_of(tx, claimant, now)
    several = len({head.tenant for head in heads}) > 1
    most_urgent_apart: int | None = None
    for head in in_order(heads, uses_of_tenants(tx, now) if several else {}):
        if head.fit is Fit.APART:
            most_urgent_apart = head.priority if most_urgent_apart is None else most_urgent_apart
        elif head.fit is Fit.NOW:
            # Whoever joined now would keep the worker from a more urgent job, which has to wait for all to end.
            return head.seq if most_urgent_apart in (None, head.priority) else None
        # What comes behind would take the room that this job waits for.
        elif head.fit is Fit.PROMISED or _has_most_room(tx, claimant.worker, head.seq):
            return None
    return None


def _has_most_room(tx: sa.Connection, worker: str, seq: int) -> bool:
    """Return whether of the workers that could hold the job this one has most room: one is enough to wait for it."""
    columns = trainer_workers.c
    needed = sa.select(tables.jobs.c.needed_bytes).where(tables.jobs.c.seq == seq).scalar_subquery()
    able = sa.select(columns.name).where(columns.total_bytes >= needed)
    first = tx.execute(able.order_by(columns.free_bytes.desc(), columns.name).limit(1)).scalar()
    return first in (None, worker)


def _claim(tx: sa.Connection, claimant: Claimant, seq: int, now: float) -> Lease | None:
    """Claim the job if it still waits for nothing but a worker."""
    query = sa.select(tables.jobs).where(tables.jobs.c.seq == seq, ready(now)).with_for_update()
    row = tx.execute(query).mappings().one_or_none()
    if row is None:
        return None
    job = job_of(row)
    values: dict[str, Any] = {
        "attempt": job.attempt + 1,
        "worker": claimant.worker,
        "lease_expires_at": now + claimant.lease_s,
        "lease_s": claimant.lease_s,
        "started_at": job.started_at if job.started_at is not None else now,
        "claimed_at": now,
        "phase": JobPhase.STARTING,
        "phase_since": now,
    }
    verb = "Started" if job.attempt == 0 else "Continued"
    note = JobNote(message=f"{verb} by worker {claimant.worker}", data={"attempt": job.attempt + 1})
    move_job(tx, job, JobMove(to=JobState.RUNNING, note=note, values=values), now)
    return Lease(job_id=job.id, worker=claimant.worker, attempt=job.attempt + 1)
