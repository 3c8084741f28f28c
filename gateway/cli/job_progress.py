"""The events of a job as lines, and a progress bar until the job has ended."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from gateway.cli.client import Client
from gateway.cli.output import stderr_console
from gateway.objects.jobs import AnyJob, JobEventObject, JobObject, StepFigures
from gateway.objects.lists import ObjectPage
from registry.jobs.job import JobState

_POLL_S: Final = 0.5
_PAGE: Final = 100


def follow_job(client: Client, job_id: str) -> JobObject:
    """Show events and a progress bar until the job has ended or is paused; return the job."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    seen: set[str] = set()
    with Progress(*columns, console=stderr_console(), transient=True) as bar:
        steps = bar.add_task("waiting for the trainer", total=None)
        while True:
            job = client.get(f"/admin/jobs/{job_id}", AnyJob).root
            for event in new_events(client, job_id, seen):
                if event.type == "metrics":
                    figures = StepFigures.model_validate(event.data)
                    text = f"loss {figures.train_loss:.3f}"
                    bar.update(steps, completed=figures.step, total=figures.total_steps, description=text)
                else:
                    bar.console.print(Text(*line_of(event)), soft_wrap=True)
            if job.status.is_terminal or job.status is JobState.PAUSED:
                return job
            time.sleep(_POLL_S)


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
