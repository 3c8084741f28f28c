"""How long a job still takes: by the speed of its steps, by what earlier jobs like it took, or by the estimate."""

from __future__ import annotations

from typing import Literal

from gateway.objects.job_estimate import JobEstimate
from registry.database import Registry
from registry.jobs.job import Job
from registry.jobs.job_phase import JobPhase
from registry.jobs.job_state import JobState


def estimate_of(job: Job, registry: Registry) -> JobEstimate | None:
    """Return the estimate for a job that waits or runs; None where nothing is known. Reads the registry."""
    if job.state not in (JobState.QUEUED, JobState.RUNNING):
        return None
    now = registry.transactions.now()
    if job.phase is JobPhase.TRAINING and job.estimated_finish is not None:
        return JobEstimate(remaining_s=max(0, round(job.estimated_finish - now)), source="steps", earlier_jobs=None)
    # A job that was given back goes on from a checkpoint, and no earlier job tells how much that leaves.
    if job.attempt > 1 or (job.attempt == 1 and job.state is JobState.QUEUED):
        return None
    spent = 0.0 if job.started_at is None else now - job.started_at
    expected = registry.jobs.expected_duration(job)
    if expected is not None:
        return _left(expected.seconds - spent, "earlier_jobs", expected.jobs)
    return None if job.expected_s is None else _left(job.expected_s - spent, "formula", None)


def _left(remaining_s: float, source: Literal["earlier_jobs", "formula"], jobs: int | None) -> JobEstimate | None:
    """Return what is left of the expected time; None for a job that takes longer than was expected."""
    return None if remaining_s <= 0 else JobEstimate(remaining_s=round(remaining_s), source=source, earlier_jobs=jobs)
