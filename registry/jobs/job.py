"""Jobs of the trainer: states, legal moves, leases. Pure: no database, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from registry.contracts.job_spec import JobSpec
from registry.contracts.unfit_rows import UnfitRows
from registry.jobs.job_phase import JobPhase
from registry.jobs.job_state import JobState


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A worker's right to move one job, valid while the worker renews it and the attempt is the job's latest."""

    job_id: str
    worker: str
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JobError:
    """The reason of a failed job, in OpenAI's shape."""

    code: str
    message: str
    param: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A unit of trainer work; `spec` holds its kind and what was asked."""

    id: str
    spec: JobSpec
    state: JobState
    owner: str
    tenant: str
    """Whose keys see the job."""
    attempt: int
    """How many times a worker has claimed the job."""
    worker: str | None
    lease_expires_at: float | None
    """By the clock of whoever renewed last; changes with every renewal, which shows that the worker lives."""
    lease_s: float | None
    """How long the job stays with a worker that does not renew."""
    cancel_requested: bool
    pause_requested: bool
    error: JobError | None
    revision: int | None
    """Number of the revision of `spec.adapter` that the job published."""
    fine_tuned_model: str | None
    trained_tokens: int | None
    result_file: str | None
    """Id of the file with the figures of the job's steps."""
    estimated_finish: float | None
    """When the last step ends, by the speed of the steps so far; None before the first step."""
    phase: JobPhase | None
    """The phase of a running job."""
    phase_since: float | None
    created_at: float
    started_at: float | None
    """When a worker first claimed the job."""
    finished_at: float | None
    needed_bytes: int | None
    """Most memory of a device that the job is expected to take."""
    shared_bytes: int
    """The part of `needed_bytes` that light jobs on one base model have once for all: libraries and base weights."""
    expected_s: float | None
    """How long the job is expected to take from its claim to its end."""
    queued_at: float
    """Since when the job waits, or had waited before its latest claim."""
    not_before: float
    """The earliest time of the next claim, after machines were lost with the job."""
    claimed_at: float | None
    """When the present attempt began."""
    losses: int
    """How many workers were lost with the job since its latest checkpoint."""
    gives_way_to: str | None
    """Id of the job of a higher priority for which this one is asked to stop at a checkpoint."""
    gave_way: int
    """How many times the job was asked to."""

    unfit_rows: dict[str, UnfitRows]
    """Field that names a file -> the rows of it that do not fit, where there are any."""

    @property
    def doing(self) -> str | None:
        """The phase of a running job in the words of its kind."""
        return self.phase and self.spec.phase_words.get(self.phase, self.phase.doing)

    @property
    def expected_finish(self) -> float | None:
        """When the running job is expected to end: by the speed of its steps, before the first by its estimate."""
        if self.estimated_finish is not None or self.claimed_at is None or self.expected_s is None:
            return self.estimated_finish
        return self.claimed_at + self.expected_s


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEvent:
    """An event of a job. `data` of a `metrics` event holds the figures of one training step."""

    id: str
    job_id: str
    level: str
    """`info`, `warn` or `error`."""
    type: str
    """`message` or `metrics`."""
    message: str
    data: Mapping[str, Any]
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCheckpoint:
    """A complete checkpoint from which the job can continue."""

    id: str
    job_id: str
    global_step: int
    metrics: Mapping[str, Any]
    at: float


def has_metadata(job: Job, wanted: Mapping[str, str]) -> bool:
    """Return whether the job has all pairs of *wanted*; with an empty *wanted*, whether it has no metadata."""
    facts = job.spec.fine_tune_facts()
    own = {} if facts is None else facts.metadata
    return wanted.items() <= own.items() if wanted else not own
