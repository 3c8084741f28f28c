"""How long a job still takes: by the speed of its steps, or by what earlier jobs like it took."""

from __future__ import annotations

from gateway.objects.jobs import JobEstimate
from registry.database import Registry
from registry.jobs.durations import ExpectedDuration
from registry.jobs.job import Job, JobState
from registry.jobs.job_phase import JobPhase


def estimate_of(job: Job, registry: Registry) -> JobEstimate | None:
    """Return the estimate for a job that waits or runs; None where nothing was measured. Reads the registry."""
    if job.state not in (JobState.QUEUED, JobState.RUNNING):
        return None
    now = registry.transactions.now()
    if job.phase is JobPhase.TRAINING and job.estimated_finish is not None:
        return JobEstimate(remaining_s=max(0, round(job.estimated_finish - now)), source="steps", earlier_jobs=None)
    # A job that was given back goes on from a checkpoint, and no earlier job tells how much that leaves.
    if job.attempt > 1 or (job.attempt == 1 and job.state is JobState.QUEUED):
        return None
    expected = registry.jobs.expected_duration(job)
    return None if expected is None else _left(expected, job, now)


def _left(expected: ExpectedDuration, job: Job, now: float) -> JobEstimate | None:
    """Return what is left of the expected time; None for a job that takes longer than the earlier ones."""
    spent = 0.0 if job.started_at is None else now - job.started_at
    if spent >= expected.seconds:
        return None
    return JobEstimate(remaining_s=round(expected.seconds - spent), source="earlier_jobs", earlier_jobs=expected.jobs)
