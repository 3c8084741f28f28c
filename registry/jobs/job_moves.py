"""Moves of jobs inside a transaction; `JobStore` and `registry.publishing` share them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from secrets import token_hex
from typing import Any, Final

import sqlalchemy as sa

from registry import tables
from registry.contracts.job_kinds import spec_from
from registry.contracts.unfit_rows import UnfitRows
from registry.errors import LeaseLost, NotFound, StaleState
from registry.jobs.job import Job, JobCheckpoint, JobError, JobEvent, Lease
from registry.jobs.job_phase import JobPhase
from registry.jobs.job_state import JobState, check_move
from registry.jobs.scheduling.dependencies import failure_of, waiting_rows
from registry.jobs.scheduling.tenant_uses import add_use
from registry.transactions import insert_or_ignore
from registry.wording.suggestions import did_you_mean

UNLEASED: Final[Mapping[str, Any]] = {
    "worker": None,
    "lease_expires_at": None,
    "lease_s": None,
    "estimated_finish": None,
    "phase": None,
    "phase_since": None,
    "claimed_at": None,
    "gives_way_to": None,
}


_QUEUE_ONLY: Final = frozenset({"seq", "priority", "base_digest", "is_light"})
"""Columns by which jobs are ordered and chosen; the spec has their values."""
_MOST_COMPARED: Final = 200
"""How many ids, the newest, are compared with an unknown one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobNote:
    """An event before it has an id and a time."""

    message: str
    level: str = "info"
    type: str = "message"
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobMove:
    """A change of state with its event; *values* are other columns that change in the same statement."""

    to: JobState
    note: JobNote
    values: Mapping[str, Any] = field(default_factory=dict)


def job_of(row: sa.RowMapping) -> Job:
    """Return a row of `jobs` as a value."""
    fields = {name: value for name, value in row.items() if name not in _QUEUE_ONLY}
    error = None if row["error"] is None else JobError(**row["error"])
    phase = None if row["phase"] is None else JobPhase(row["phase"])
    unfit = {field: UnfitRows.model_validate(rows) for field, rows in (row["unfit_rows"] or {}).items()}
    parsed = {
        "spec": spec_from(row["spec"]),
        "error": error,
        "state": JobState(row["state"]),
        "phase": phase,
        "unfit_rows": unfit,
    }
    return Job(**(fields | parsed))


def job_event_of(row: sa.RowMapping) -> JobEvent:
    """Return a row of `job_events` as a value."""
    return JobEvent(**{name: value for name, value in row.items() if name != "seq"})


def checkpoint_of(row: sa.RowMapping) -> JobCheckpoint:
    """Return a row of `job_checkpoints` as a value."""
    return JobCheckpoint(**{name: value for name, value in row.items() if name != "seq"})


def find_job(tx: sa.Connection, job_id: str, *, lock: bool = False, tenant: str | None = None) -> Job:
    """Return the job with this id, else raise `NotFound`; with *lock* the row is locked until the transaction ends.

    With *tenant* a job of another tenant is answered like one that does not exist.
    """
    query = sa.select(tables.jobs).where(tables.jobs.c.id == job_id)
    row = tx.execute(query.with_for_update() if lock else query).mappings().one_or_none()
    if row is None or tenant not in (None, row["tenant"]):
        ids = sa.select(tables.jobs.c.id).order_by(tables.jobs.c.seq.desc()).limit(_MOST_COMPARED)
        there = tx.execute(ids if tenant is None else ids.where(tables.jobs.c.tenant == tenant)).scalars()
        raise NotFound(f"there is no job {job_id!r}{did_you_mean(job_id, there)}")
    return job_of(row)


def held_job(tx: sa.Connection, lease: Lease) -> Job:
    """Return the job that *lease* holds, locked; `LeaseLost` if another attempt began or the job is not running."""
    job = find_job(tx, lease.job_id, lock=True)
    # The attempt tells two claims of the same worker apart.
    if job.state is not JobState.RUNNING or (job.worker, job.attempt) != (lease.worker, lease.attempt):
        raise LeaseLost(
            f"worker {lease.worker} (attempt {lease.attempt}) does not hold job {job.id}: "
            f"it is {job.state}, held by {job.worker or 'nobody'} (attempt {job.attempt})"
        )
    return job


def state_after_lease(job: Job) -> JobState:
    """Return the state of a job whose worker gives it back: what was requested meanwhile, else queued."""
    if job.cancel_requested:
        return JobState.CANCELLED
    return JobState.PAUSED if job.pause_requested else JobState.QUEUED


def move_job(tx: sa.Connection, job: Job, move: JobMove, at: float) -> Job:
    """Move *job* from the state that the caller saw and record the event. Raises `IllegalMove` or `StaleState`."""
    _move_row(tx, job, move, at)
    if move.to in (JobState.FAILED, JobState.CANCELLED):
        _fail_waiting(tx, job.id, move.to, at)
    return find_job(tx, job.id)


def _move_row(tx: sa.Connection, job: Job, move: JobMove, at: float) -> None:
    to = move.to
    check_move(job.state, to)
    changed: dict[str, Any] = {"state": to, **move.values}
    if to is not JobState.RUNNING:
        changed |= UNLEASED
    if to in (JobState.PAUSED, JobState.QUEUED):
        changed["pause_requested"] = False
    if to is JobState.QUEUED:
        changed["queued_at"] = at
    if to.is_terminal:
        changed["finished_at"] = at
    # Compare-and-set: the attempt too, since another worker may have claimed and run the job in between.
    unmoved = sa.and_(tables.jobs.c.state == job.state, tables.jobs.c.attempt == job.attempt)
    moved = tx.execute(sa.update(tables.jobs).where(tables.jobs.c.id == job.id, unmoved).values(**changed))
    if moved.rowcount != 1:
        raise StaleState(f"job {job.id} is no longer {job.state}")
    # Only the caller whose update met the row gets here: each move has one event, in its own transaction.
    add_note(tx, job.id, move.note, at)
    if job.state is JobState.RUNNING:
        add_use(tx, job, at)
    if job.state is JobState.QUEUED:
        # Whoever was asked to give way to a job that no longer waits may go on.
        gives_way = sa.and_(tables.jobs.c.state == JobState.RUNNING, tables.jobs.c.gives_way_to == job.id)
        tx.execute(sa.update(tables.jobs).where(gives_way).values(gives_way_to=None))


def _fail_waiting(tx: sa.Connection, job_id: str, state: JobState, at: float) -> None:
    """Fail the jobs that wait for one which ended in *state*, and those that wait for them."""
    ended = [(job_id, state)]
    while ended:
        first = ended.pop()
        for waiting in map(job_of, waiting_rows(tx, first[0])):
            error = failure_of(*first)
            note = JobNote(message=error["message"], level="error")
            _move_row(tx, waiting, JobMove(to=JobState.FAILED, note=note, values={"error": error}), at)
            ended.append((waiting.id, JobState.FAILED))


def new_event_id() -> str:
    """Return an id for an event."""
    return f"ftevent-{token_hex(12)}"


def add_note(tx: sa.Connection, job_id: str, note: JobNote, at: float, event_id: str = "") -> None:
    """Add an event to a job; one whose *event_id* was stored before is left as it is."""
    event = asdict(note) | {"id": event_id or new_event_id(), "job_id": job_id, "at": at}
    insert_or_ignore(tx, tables.job_events, event)
