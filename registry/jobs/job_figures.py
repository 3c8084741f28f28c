"""Figures of the queue and of the trainer's workers, as Prometheus is shown them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from registry import tables
from registry.jobs.job_state import JobState
from registry.jobs.scheduling.claims import ready
from registry.jobs.scheduling.room import TrainerWorker
from registry.jobs.scheduling.worker_store import workers_of
from registry.transactions import Transactions


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningJob:
    """A job that a worker holds."""

    id: str
    method: str
    trained_tokens: int
    finish_at: float | None
    """When the last step is expected to end, by the speed of the steps so far; None before the first step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFigures:
    """All jobs as of one moment."""

    states: Mapping[JobState, int]
    failures: Mapping[str, int]
    """Code of the error -> failed jobs ever."""
    waiting_since: float | None
    """Since when that job has waited which waits longest for nothing but a worker; None where none does."""
    running: tuple[RunningJob, ...]
    workers: tuple[TrainerWorker, ...]


NO_JOBS = JobFigures(states={}, failures={}, waiting_since=None, running=(), workers=())


class JobFigureStore:
    """Reads the figures of jobs."""

    def __init__(self, transactions: Transactions) -> None:
        self._tx = transactions

    def read(self) -> JobFigures:
        """Return the figures of now. Ended jobs are counted in an index; of them only failed ones are read."""
        jobs = tables.jobs.c
        counts = sa.select(jobs.state, sa.func.count()).group_by(jobs.state)
        code = jobs.error["code"].as_string()
        failures = sa.select(code, sa.func.count()).where(jobs.state == JobState.FAILED).group_by(code)
        oldest = sa.select(sa.func.min(jobs.queued_at)).where(ready(self._tx.now()))
        method = jobs.spec["method"].as_string()
        held = sa.select(jobs.id, method, jobs.trained_tokens, jobs.estimated_finish)
        with self._tx.read() as tx:
            return JobFigures(
                states={JobState(state): count for state, count in tx.execute(counts)},
                failures={code or "unknown": count for code, count in tx.execute(failures)},
                waiting_since=tx.execute(oldest).scalar(),
                running=tuple(
                    RunningJob(id=job_id, method=kind, trained_tokens=int(tokens or 0), finish_at=finish_at)
                    for job_id, kind, tokens, finish_at in tx.execute(
                        held.where(jobs.state == JobState.RUNNING).order_by(jobs.seq)
                    )
                ),
                workers=tuple(workers_of(tx)),
            )
