"""Follow a job until it has ended, and its revision until replicas serve it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from gateway.cli.client import Client
from gateway.cli.following.live_line import LiveLine
from gateway.cli.following.rough_times import rough_time
from gateway.cli.output import stderr_console
from gateway.objects.job_estimate import JobEstimate
from gateway.objects.jobs import AnyJob, JobEventObject, JobObject, StepFigures
from gateway.objects.lists import ObjectPage
from registry.jobs.job_phase import JobPhase
from registry.jobs.job_state import JobState

_POLL_S: Final = 0.5
_PAGE: Final = 100


def follow_job(client: Client, job_id: str) -> JobObject:
    """Show what the job does until it has ended and its revision is served, or it is paused; return the job."""
    from gateway.cli.following.serving_progress import show_serving  # 40 ms that commands which list jobs do without

    seen: set[str] = set()
    figures: StepFigures | None = None
    with LiveLine(stderr_console()) as line:
        while True:
            job = client.get(f"/admin/jobs/{job_id}", AnyJob).root
            for event in new_events(client, job_id, seen):
                if event.type == "metrics":
                    figures = StepFigures.model_validate(event.data)
                else:
                    line.print(*line_of(event))
            if job.status.is_terminal or job.status is JobState.PAUSED:
                show_serving(client, job, line)
                return job
            line.show(what_of(job), detail_of(job, figures, time.time()), part_of(job, figures))
            time.sleep(_POLL_S)


def what_of(job: JobObject) -> str:
    """Return what the job does, or waits for."""
    if job.status is JobState.QUEUED:
        return "waiting for the trainer" if job.lorry.attempt == 0 else "waiting for the trainer, to go on"
    return job.lorry.doing or "beginning"


def detail_of(job: JobObject, figures: StepFigures | None, now: float) -> str:
    """Return how far the phase is and how long the job still takes, as the end of a sentence."""
    parts = []
    if job.lorry.phase is JobPhase.TRAINING and figures is not None:
        parts.append(f"step {figures.step} of {figures.total_steps}, loss {figures.train_loss:.3f}")
    elif job.lorry.phase_since is not None:
        parts.append(f"{max(0, round(now - job.lorry.phase_since))} s so far")
    parts += estimate_text(job.lorry.estimate, is_begun=job.status is JobState.RUNNING)
    return "".join(f", {part}" for part in parts)


def part_of(job: JobObject, figures: StepFigures | None) -> float | None:
    """Return the part of the steps that is done, from 0 to 1; None while there are none."""
    if job.lorry.phase is not JobPhase.TRAINING or figures is None:
        return None
    return figures.step / figures.total_steps


def estimate_text(estimate: JobEstimate | None, *, is_begun: bool) -> list[str]:
    """Return the estimate with its ground, as one text or none."""
    if estimate is None:
        return []
    time_left = rough_time(estimate.remaining_s)
    if estimate.source == "steps":
        return [f"{time_left} left by the speed of its steps"]
    if estimate.source == "formula":
        return [f"{time_left} {'left' if is_begun else 'once it begins'}, estimated from its model and rows"]
    ground = "an earlier job like it" if estimate.earlier_jobs == 1 else f"{estimate.earlier_jobs} earlier jobs like it"
    return [f"{time_left} {'left' if is_begun else 'once it begins'}, estimated from {ground}"]


def expected_text(estimate: JobEstimate | None) -> str:
    """Return how long a job that was just queued will take, as one sentence."""
    parts = estimate_text(estimate, is_begun=False)
    if parts:
        return f"{parts[0][0].upper()}{parts[0][1:]}."
    return "No earlier job was like it, so an estimate of its time comes with its first steps."


def latest_figures(client: Client, job_id: str) -> StepFigures | None:
    """Return the figures of the newest step that the job has reported; None before the first."""
    page = client.get(f"/admin/jobs/{job_id}/events", ObjectPage[JobEventObject], limit=_PAGE)
    return next((StepFigures.model_validate(event.data) for event in page.data if event.type == "metrics"), None)


def new_events(client: Client, job_id: str, seen: set[str]) -> list[JobEventObject]:
    """Return the job's events whose ids are not in *seen*, oldest first, and add their ids to *seen*."""
    fresh = []
    for event in _newest_first(client, job_id):
        if event.id in seen:
            break
        fresh.append(event)
    seen.update(event.id for event in fresh)
    return fresh[::-1]


def _newest_first(client: Client, job_id: str) -> Iterator[JobEventObject]:
    after = None
    while True:
        page = client.get(f"/admin/jobs/{job_id}/events", ObjectPage[JobEventObject], after=after, limit=_PAGE)
        yield from page.data
        if not page.has_more:
            return
        after = page.last_id


def line_of(event: JobEventObject) -> tuple[str, str]:
    """Return time and message of an event, and the colour of a warning or an error."""
    at = time.strftime("%H:%M:%S", time.localtime(event.created_at))
    return f"{at}  {event.message}", {"warn": "yellow", "error": "red"}.get(event.level, "")
