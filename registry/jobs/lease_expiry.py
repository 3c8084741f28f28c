"""The end of leases that nobody renews."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

from registry import tables
from registry.jobs.job import Job
from registry.jobs.job_moves import JobMove, JobNote, job_of, move_job, state_after_lease
from registry.jobs.job_state import JobState
from registry.liveness.silence import SilenceWatch
from registry.transactions import Transactions

_FIRST_PAUSE_S: Final = 10.0
LONGEST_PAUSE_S: Final = 600.0
"""The longest time for which a job waits after workers were lost with it."""


def pause_after(losses: int) -> float:
    """Return for how many seconds a job waits whose *losses*-th worker in a row was lost.

    The first loss costs no time. Where one follows another without a checkpoint in between, the job itself may be what
    takes its machines down, and the pause doubles.
    """
    return 0.0 if losses < 2 else min(LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(losses - 2, 10))


def _after_loss(job: Job, now: float) -> JobMove:
    """Return the move of a job whose worker was lost."""
    to, message = state_after_lease(job), f"Worker {job.worker} stopped renewing its lease; the job is "
    if to is not JobState.QUEUED:
        return JobMove(to=to, note=JobNote(message=message + to, level="warn"))
    pause_s = pause_after(job.losses + 1)
    if pause_s:
        to_wait = f" for {pause_s:g} s or longer: {job.losses + 1} workers were lost since its last checkpoint"
        message += f"{to}{to_wait}"
    else:
        message += to
    values = {"losses": job.losses + 1, "not_before": now + pause_s}
    return JobMove(to=to, note=JobNote(message=message, level="warn"), values=values)


class LeaseExpiry:
    """Takes jobs from workers that stopped renewing their leases.

    Silence is measured here, from one look to a later one: no clock that jumps ends a lease, or keeps one.
    """

    def __init__(self, transactions: Transactions) -> None:
        self._tx = transactions
        self._renewals = SilenceWatch(transactions.steady)

    def expire(self) -> list[str]:
        """Queue, cancel or pause every running job whose lease was not renewed in its time; return their ids."""
        expired = self._unrenewed()
        # The controller asks several times a second; writing each time would hold up SQLite's other writers.
        if expired is None:
            return []
        with self._tx.write() as tx:
            now = self._tx.now()
            # A job whose worker renews the lease at this moment is locked by that worker and skipped.
            rows = tx.execute(expired.order_by(tables.jobs.c.seq).with_for_update(skip_locked=True)).mappings().all()
            for job in map(job_of, rows):
                move_job(tx, job, _after_loss(job, now), now)
            return [row["id"] for row in rows]

    def _unrenewed(self) -> sa.Select[Any] | None:
        """Return a query for the running jobs whose lease stayed the same for its whole length; None without one."""
        jobs = tables.jobs.c
        running = jobs.state == JobState.RUNNING
        with self._tx.read() as tx:
            rows = tx.execute(sa.select(jobs.id, jobs.attempt, jobs.lease_expires_at, jobs.lease_s).where(running))
            leases = {row.id: row for row in rows}
        # The attempt tells a second claim of the job apart from a lease that stayed the same.
        marks = {job_id: (row.attempt, row.lease_expires_at) for job_id, row in leases.items()}
        silences = self._renewals.look(marks)
        over = [
            sa.and_(jobs.id == job_id, jobs.attempt == row.attempt, jobs.lease_expires_at == row.lease_expires_at)
            for job_id, row in leases.items()
            if silences[job_id] > row.lease_s
        ]
        return sa.select(tables.jobs).where(running, sa.or_(*over)) if over else None
