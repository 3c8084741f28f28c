"""Moves of jobs inside a transaction: what `jobs.py` and `publish.py` share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from secrets import token_hex
from typing import Any, Final

import sqlalchemy as sa

from registry import tables
from registry.contracts.publish_spec import JOB_SPEC
from registry.errors import LeaseLost, NotFound, StaleState
from registry.jobs.job import Job, JobCheckpoint, JobError, JobEvent, JobState, Lease, check_move

UNLEASED: Final[Mapping[str, Any]] = {"worker": None, "lease_expires_at": None, "estimated_finish": None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """An event before it has an id and a time."""

    message: str
    level: str = "info"
    type: str = "message"
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A change of state with what is recorded of it; *values* are other columns that change with it."""

    to: JobState
    note: Note
    values: Mapping[str, Any] = field(default_factory=dict)


def job_of(row: sa.RowMapping) -> Job:
    """A row of `jobs` as a value."""
    fields = {name: value for name, value in row.items() if name != "seq"}
    error = None if row["error"] is None else JobError(**row["error"])
    spec = JOB_SPEC.validate_python(row["spec"])
    return Job(**(fields | {"spec": spec, "error": error, "state": JobState(row["state"])}))


def job_event_of(row: sa.RowMapping) -> JobEvent:
    """A row of `job_events` as a value."""
    return JobEvent(**{name: value for name, value in row.items() if name != "seq"})


def checkpoint_of(row: sa.RowMapping) -> JobCheckpoint:
    """A row of `job_checkpoints` as a value."""
    return JobCheckpoint(**{name: value for name, value in row.items() if name != "seq"})


def find_job(tx: sa.Connection, job_id: str, *, lock: bool = False) -> Job:
    """The job with this id, with *lock* held still until the transaction ends; else `NotFound`."""
    query = sa.select(tables.jobs).where(tables.jobs.c.id == job_id)
    row = tx.execute(query.with_for_update() if lock else query).mappings().one_or_none()
    if row is None:
        raise NotFound(f"there is no fine-tuning job {job_id!r}")
    return job_of(row)


def held_job(tx: sa.Connection, lease: Lease) -> Job:
    """The job that *lease* holds, locked; `LeaseLost` if the lease is not the job's latest or the job left running."""
    job = find_job(tx, lease.job_id, lock=True)
    if job.state is not JobState.RUNNING or (job.worker, job.attempt) != (lease.worker, lease.attempt):
        raise LeaseLost(
            f"worker {lease.worker} (attempt {lease.attempt}) does not hold job {job.id}: "
            f"it is {job.state}, held by {job.worker or 'nobody'} (attempt {job.attempt})"
        )
    return job


def state_after_lease(job: Job) -> JobState:
    """Where a job goes when its worker gives it back: what was asked for meanwhile, else the queue."""
    if job.cancel_requested:
        return JobState.CANCELLED
    return JobState.PAUSED if job.pause_requested else JobState.QUEUED


def move_job(tx: sa.Connection, job: Job, move: Move, at: float) -> Job:
    """Move *job* from the state that the caller saw and record it. Raises `IllegalMove` or `StaleState`."""
    to = move.to
    check_move(job.state, to)
    changed: dict[str, Any] = {"state": to, **move.values}
    if to is not JobState.RUNNING:
        changed |= UNLEASED
    if to in (JobState.PAUSED, JobState.QUEUED):
        changed["pause_requested"] = False
    if to.is_terminal:
        changed["finished_at"] = at
    unmoved = sa.and_(tables.jobs.c.state == job.state, tables.jobs.c.attempt == job.attempt)
    moved = tx.execute(sa.update(tables.jobs).where(tables.jobs.c.id == job.id, unmoved).values(**changed))
    if moved.rowcount != 1:
        raise StaleState(f"job {job.id} is no longer {job.state}")
    add_note(tx, job.id, move.note, at)
    return find_job(tx, job.id)


def add_note(tx: sa.Connection, job_id: str, note: Note, at: float) -> None:
    """Add an event to a job's story."""
    event = asdict(note) | {"id": f"ftevent-{token_hex(12)}", "job_id": job_id, "at": at}
    tx.execute(sa.insert(tables.job_events).values(event))
