"""Jobs in the database: the gateway creates and flags them, the worker that holds the lease moves them."""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from secrets import token_hex
from typing import Any

import sqlalchemy as sa

from registry import tables
from registry.audit import Act, write_audit
from registry.contracts.job_spec import JobSpec
from registry.contracts.unfit_rows import UnfitRows
from registry.errors import IllegalMove, StaleState
from registry.jobs.adapter_owners import LOCAL_CLAIM, Claim
from registry.jobs.durations import ExpectedDuration, expected_duration
from registry.jobs.job import Job, JobCheckpoint, JobError, JobEvent, Lease
from registry.jobs.job_lists import JobFilter, current_jobs, jobs_making, listed_jobs
from registry.jobs.job_moves import (
    JobMove,
    JobNote,
    add_note,
    checkpoint_of,
    find_job,
    held_job,
    job_event_of,
    job_of,
    move_job,
    state_after_lease,
)
from registry.jobs.job_phase import JobPhase
from registry.jobs.job_state import ENDED, JobState
from registry.jobs.lease_expiry import LeaseExpiry
from registry.jobs.pages import page
from registry.jobs.scheduling.claims import Claimant, claim_next, first_for
from registry.jobs.scheduling.dependencies import dependencies_of
from registry.jobs.scheduling.entering import queue_job
from registry.jobs.scheduling.forecast import Turn
from registry.jobs.scheduling.giving_way import GiveWayRules, ask_to_give_way
from registry.jobs.scheduling.room import ANY_ROOM, NO_ENTRY, QueueEntry, Room
from registry.jobs.scheduling.turns import QueueTurns
from registry.jobs.served_checkpoints import served_checkpoints
from registry.transactions import Transactions, upsert


class JobStore:
    """The queue of the trainer. Methods that take a `Lease` raise `LeaseLost` when it is not the job's latest."""

    def __init__(self, transactions: Transactions) -> None:
        self._tx = transactions
        self._expiry = LeaseExpiry(transactions)
        self._turns = QueueTurns(transactions)

    def create(self, spec: JobSpec, owner: str, claim: Claim = LOCAL_CLAIM, entry: QueueEntry = NO_ENTRY) -> Job:
        """Queue a job of the claim's tenant and return it.

        `NameTaken` if its adapter is not for that tenant, `DependencyRefused`, or `JobTooLarge`.
        """
        with self._tx.write() as tx:
            return queue_job(tx, spec, owner, self._tx.now(), claim, entry)

    def get(self, job_id: str, tenant: str | None = None) -> Job:
        """Return the job with this id, of *tenant* if one is given, else raise `NotFound`."""
        with self._tx.read() as tx:
            return find_job(tx, job_id, tenant=tenant)

    def making(self, name: str, tenant: str | None = None) -> builtins.list[Job]:
        """Return the jobs, newest first, that may make a model of this *name*: `ft:...:<id>`, or their adapter's."""
        with self._tx.read() as tx:
            return [job for job in jobs_making(tx, name) if tenant in (None, job.tenant)]

    def unfinished(self) -> builtins.list[Job]:
        """Return the jobs that have not ended, oldest first."""
        query = sa.select(tables.jobs).where(tables.jobs.c.state.not_in(ENDED)).order_by(tables.jobs.c.seq)
        with self._tx.read() as tx:
            return [job_of(row) for row in tx.execute(query).mappings()]

    def claim(self, worker: str, lease_s: float, room: Room = ANY_ROOM) -> Lease | None:
        """Claim the first job of the queue that *room* can hold, for *lease_s* seconds; None where there is none."""
        return claim_next(self._tx, Claimant(worker=worker, lease_s=lease_s, room=room))

    def first(self, worker: str, room: Room) -> Job | None:
        """Return the job that `claim` would give, and leave it where it is; None where there is none."""
        return first_for(self._tx, worker, room)

    def turns(self) -> Mapping[str, Turn]:
        """Return the place of every queued job in the queue, and when its turn is expected, by id."""
        return self._turns.read()

    def dependencies(self, job_ids: Sequence[str]) -> Mapping[str, Mapping[str, JobState]]:
        """Return for each job the jobs that it was to come after, with their states; one without any is missing."""
        with self._tx.read() as tx:
            return dependencies_of(tx, job_ids)

    def ask_to_give_way(self, rules: GiveWayRules) -> Mapping[str, str]:
        """Ask running jobs to stop for jobs of a higher priority that find no room; return who gives way to whom."""
        return ask_to_give_way(self._tx, rules)

    def renew(self, lease: Lease, lease_s: float) -> Job:
        """Hold the job for *lease_s* more seconds and return it; its flags show whether to cancel or pause."""
        with self._tx.write() as tx:
            held_job(tx, lease)
            return _set(tx, lease.job_id, {"lease_expires_at": self._tx.now() + lease_s, "lease_s": lease_s})

    def request_cancel(self, job_id: str, actor: str) -> Job:
        """Cancel a waiting or paused job at once, flag a running one; `IllegalMove` when it has ended."""
        with self._tx.write() as tx:
            # The worker owns the state of a running job; this flag reaches it with the next renewal of its lease.
            job, now = find_job(tx, job_id, lock=True), self._tx.now()
            if job.cancel_requested and not job.state.is_terminal:
                return job
            write_audit(tx, Act(actor=actor, action="job.cancel", subject=job_id), now)
            if job.state is not JobState.RUNNING:
                return move_job(
                    tx, job, JobMove(to=JobState.CANCELLED, note=JobNote(message=f"Cancelled by {actor}")), now
                )
            add_note(tx, job_id, JobNote(message=f"Cancellation requested by {actor}"), now)
            return _set(tx, job_id, {"cancel_requested": True})

    def request_pause(self, job_id: str) -> Job:
        """Pause a queued job at once, flag a running one; `IllegalMove` when it has ended or is paused."""
        with self._tx.write() as tx:
            job, now = find_job(tx, job_id, lock=True), self._tx.now()
            if job.state not in (JobState.QUEUED, JobState.RUNNING):
                raise IllegalMove(f"a job that is {job.state} cannot be paused; only one that waits or runs can")
            if job.state is not JobState.RUNNING:
                return move_job(tx, job, JobMove(to=JobState.PAUSED, note=JobNote(message="Paused")), now)
            if job.pause_requested:
                return job
            add_note(tx, job_id, JobNote(message="Pause requested"), now)
            return _set(tx, job_id, {"pause_requested": True})

    def resume(self, job_id: str) -> Job:
        """Queue a paused job again, or withdraw a pause request that was not met yet; else `IllegalMove`."""
        with self._tx.write() as tx:
            job, now = find_job(tx, job_id, lock=True), self._tx.now()
            if job.state is JobState.RUNNING and job.pause_requested:
                add_note(tx, job_id, JobNote(message="Pause request withdrawn"), now)
                return _set(tx, job_id, {"pause_requested": False})
            if job.state is not JobState.PAUSED:
                raise IllegalMove(f"a job that is {job.state} cannot be resumed; only a paused one can")
            note = JobNote(message="Resumed, waiting for a worker")
            return move_job(tx, job, JobMove(to=JobState.QUEUED, note=note), now)

    def yield_paused(self, lease: Lease) -> Job:
        """Give the job back after the worker stopped at a checkpoint because of a pause request."""
        return self._give_back(lease, "Paused at a checkpoint")

    def release(self, lease: Lease) -> Job:
        """Give the job back: into the queue, or cancelled or paused if that was requested meanwhile."""
        return self._give_back(lease, f"Released by worker {lease.worker}")

    def finish(self, lease: Lease, to: JobState, error: JobError | None = None) -> Job:
        """End the job without a revision; `registry.publishing.publish` ends it with one."""
        if not to.is_terminal:
            raise IllegalMove(f"a job cannot finish as {to}")
        note = JobNote(message=f"The job {to}" if error is None else error.message, level="error" if error else "info")
        values = {"error": None if error is None else asdict(error)}
        with self._tx.write() as tx:
            return move_job(tx, held_job(tx, lease), JobMove(to=to, note=note, values=values), self._tx.now())

    def succeed(self, lease: Lease, note: JobNote) -> Job:
        """End a job that publishes nothing as succeeded, with *note*; `StaleState` if it was asked to cancel."""
        with self._tx.write() as tx:
            job, now = held_job(tx, lease), self._tx.now()
            if job.cancel_requested:
                raise StaleState(f"job {job.id} was asked to cancel")
            add_note(tx, job.id, note, now)
            done = JobNote(message="The job has successfully completed")
            return move_job(tx, job, JobMove(to=JobState.SUCCEEDED, note=done), now)

    def expire_leases(self) -> builtins.list[str]:
        """Queue, cancel or pause every running job whose lease was not renewed in its time; return their ids."""
        return self._expiry.expire()

    def note_progress(self, lease: Lease, *, trained_tokens: int, estimated_finish: float | None) -> None:
        """Store how many tokens were trained and when the job is expected to finish (unix seconds)."""
        with self._tx.write() as tx:
            held_job(tx, lease)
            _set(tx, lease.job_id, {"trained_tokens": trained_tokens, "estimated_finish": estimated_finish})

    def note_unfit_rows(self, lease: Lease, field: str, unfit: UnfitRows) -> None:
        """Store which rows of the file that *field* of the job names do not fit."""
        with self._tx.write() as tx:
            known = held_job(tx, lease).unfit_rows
            stored = {name: rows.model_dump(mode="json") for name, rows in (known | {field: unfit}).items()}
            _set(tx, lease.job_id, {"unfit_rows": stored})

    def enter_phase(self, lease: Lease, phase: JobPhase, at: float) -> None:
        """Store what the job does since *at* (unix seconds)."""
        with self._tx.write() as tx:
            held_job(tx, lease)
            _set(tx, lease.job_id, {"phase": phase, "phase_since": at})

    def expected_duration(self, job: Job) -> ExpectedDuration | None:
        """Return how long the job takes by what earlier jobs like it took; None where there was none."""
        with self._tx.read() as tx:
            return expected_duration(tx, job.spec)

    def add_event(self, lease: Lease, event_id: str, note: JobNote) -> None:
        """Add an event to the job, once: a call is repeated with its id where nobody knows whether it was stored."""
        with self._tx.write() as tx:
            held_job(tx, lease)
            add_note(tx, lease.job_id, note, self._tx.now(), event_id)

    def add_checkpoint(self, lease: Lease, global_step: int, metrics: Mapping[str, Any]) -> None:
        """Record a complete checkpoint; one of the same step is replaced."""
        with self._tx.write() as tx:
            held_job(tx, lease)
            row = {
                "id": f"ftckpt_{token_hex(12)}",
                "job_id": lease.job_id,
                "global_step": global_step,
                "metrics": dict(metrics),
                "at": self._tx.now(),
            }
            upsert(tx, tables.job_checkpoints, ("job_id", "global_step"), row)
            # The job has come further: what took its workers before is over.
            had_losses = sa.and_(tables.jobs.c.id == lease.job_id, tables.jobs.c.losses > 0)
            tx.execute(sa.update(tables.jobs).where(had_losses).values(losses=0))

    def events(self, job_id: str, after: str | None = None, limit: int = 20) -> builtins.list[JobEvent]:
        """Return events, newest first; *after* is the id of the last event of the previous page."""
        with self._tx.read() as tx:
            find_job(tx, job_id)
            query = sa.select(tables.job_events).where(tables.job_events.c.job_id == job_id)
            return [job_event_of(row) for row in page(tx, query, tables.job_events, after, limit)]

    def checkpoints(self, job_id: str, after: str | None = None, limit: int = 10) -> builtins.list[JobCheckpoint]:
        """Return checkpoints, newest first; *after* is the id of the last checkpoint of the previous page.

        For a job that has succeeded these are the steps that were published; for another one all it can continue from.
        """
        table = tables.job_checkpoints
        published = sa.union(
            sa.select(served_checkpoints.c.step).where(served_checkpoints.c.job_id == job_id),
            sa.select(tables.bases.c.step).where(tables.bases.c.job_id == job_id, tables.bases.c.step.is_not(None)),
        )
        with self._tx.read() as tx:
            query = sa.select(table).where(table.c.job_id == job_id)
            if find_job(tx, job_id).state.is_terminal:
                query = query.where(table.c.global_step.in_(published))
            return [checkpoint_of(row) for row in page(tx, query, table, after, limit)]

    def list(
        self,
        after: str | None = None,
        limit: int = 20,
        metadata: Mapping[str, str] | None = None,
        *,
        only_fine_tuning: bool = False,
        tenant: str | None = None,
    ) -> builtins.list[Job]:
        """Return jobs, newest first; with *metadata* only jobs whose own metadata has all these pairs.

        Empty *metadata* finds the jobs without any.
        """
        asked = JobFilter(metadata=metadata, only_fine_tuning=only_fine_tuning, tenant=tenant)
        with self._tx.read() as tx:
            return listed_jobs(tx, after, limit, asked)

    def current(self, ended_since: float, most_queued: int) -> builtins.list[Job]:
        """Return the jobs that have not ended, of the queued ones the first, and those that ended since then.

        The oldest come first.
        """
        with self._tx.read() as tx:
            return current_jobs(tx, ended_since, most_queued)

    def queued_count(self) -> int:
        """Return how many jobs wait."""
        queued = sa.select(sa.func.count()).where(tables.jobs.c.state == JobState.QUEUED)
        with self._tx.read() as tx:
            return tx.execute(queued).scalar_one()

    def _give_back(self, lease: Lease, message: str) -> Job:
        with self._tx.write() as tx:
            job = held_job(tx, lease)
            # The flags of this moment decide: a pause may have been withdrawn since the worker saw its request.
            if job.gives_way_to is not None and state_after_lease(job) is JobState.QUEUED:
                message = "Gave way to a job of a higher priority; the job goes on from its checkpoint later"
            return move_job(tx, job, JobMove(to=state_after_lease(job), note=JobNote(message=message)), self._tx.now())


def _set(tx: sa.Connection, job_id: str, values: Mapping[str, Any]) -> Job:
    tx.execute(sa.update(tables.jobs).where(tables.jobs.c.id == job_id).values(**values))
    return find_job(tx, job_id)
