"""The end of a job whose result was published, in the transaction of the publication."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Any, Final

import sqlalchemy as sa

from registry import tables
from registry.artifacts import Staging
from registry.errors import StaleState
from registry.jobs.job import Job, Lease
from registry.jobs.job_moves import JobMove, JobNote, add_note, held_job, move_job
from registry.jobs.job_state import JobState

RESULTS_PURPOSE: Final = "fine-tune-results"
"""Purpose of the files that jobs make, as OpenAI names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultFile:
    """The bytes of a job's result file as they are stored."""

    digest: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEnd:
    """The facts with which a job ends besides its result."""

    lease: Lease
    trained_tokens: int | None = None
    """None leaves the number that the worker noted last."""
    results: ResultFile | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedResult:
    """The result of a job as its row and its events name it."""

    name: str
    """`fine_tuned_model` of the job."""
    facts: Mapping[str, Any]
    """Data of the event that reports the publication."""
    revision: int | None = None
    """Number of the revision; None for a checkpoint."""
    notes: Sequence[JobNote] = field(default=())
    """Further events, after that of the publication."""


def put_results(staging: Staging, results: bytes) -> ResultFile:
    """Stage the bytes of a result file."""
    digest, size_bytes = staging.put_chunks([results])
    return ResultFile(digest=digest, size_bytes=size_bytes)


def succeed_job(tx: sa.Connection, end: JobEnd, published: PublishedResult, at: float) -> None:
    """End the job of *end* as succeeded. `LeaseLost`, or `StaleState` if it was asked to cancel."""
    # The job's row stays locked until the commit: a cancellation comes before this check or finds the job succeeded.
    job = held_job(tx, end.lease)
    if job.cancel_requested:
        raise StaleState(f"job {job.id} was asked to cancel; nothing is published")
    message = job.spec.published_message(published.name)
    for note in (JobNote(message=message, data=published.facts), *published.notes):
        add_note(tx, job.id, note, at)
    values: dict[str, Any] = {
        "revision": published.revision,
        "fine_tuned_model": published.name,
        "trained_tokens": end.trained_tokens if end.trained_tokens is not None else job.trained_tokens,
    }
    if end.results is not None:
        values["result_file"] = _insert_results(tx, job, end.results, at)
    note = JobNote(message="The job has successfully completed")
    move_job(tx, job, JobMove(to=JobState.SUCCEEDED, note=note, values=values), at)


def _insert_results(tx: sa.Connection, job: Job, results: ResultFile, at: float) -> str:
    row = {
        "id": f"file-{token_hex(12)}",
        "filename": "step_metrics.csv",
        "purpose": RESULTS_PURPOSE,
        "size_bytes": results.size_bytes,
        "digest": results.digest,
        "owner": job.owner,
        "tenant": job.tenant,
        "created_at": at,
    }
    tx.execute(sa.insert(tables.files).values(row))
    return str(row["id"])
