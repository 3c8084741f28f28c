"""`lorry jobs`: list, show, follow, cancel, pause, resume."""

from __future__ import annotations

import time
from typing import Annotated, Final

import typer

from gateway.cli.client import Client, part
from gateway.cli.completion.arguments import JobId
from gateway.cli.following.job_progress import estimate_text, follow_job, latest_figures, line_of, new_events
from gateway.cli.output import (
    Column,
    JsonFlag,
    WideFlag,
    length,
    moment,
    moments,
    note,
    short_ids,
    show,
    show_fields,
    show_json,
    show_table,
)
from gateway.cli.short_ids import whole_id
from gateway.objects.jobs import AnyJob, JobObject, StepFigures
from gateway.objects.lists import ObjectList
from registry.jobs.job_state import JobState

app = typer.Typer(name="jobs", no_args_is_help=True)

COLUMNS: Final = (
    Column("JOB", 0, short_ids),
    Column("STATE"),
    Column("ADAPTER", 1),
    Column("PLACE", 2),
    Column("STARTS", 3, moments),
    Column("ENDS", 4, moments),
    Column("METHOD", 5),
    Column("CREATED", 6, moments),
    Column("REVISION", 7),
    Column("BASE", 8),
)


@app.command("list")
def list_jobs(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Number of jobs.")] = 20,
    wide: WideFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """List jobs, newest first, with place in the queue and expected times."""
    with Client() as client:
        jobs = [each.root for each in client.get("/admin/jobs", ObjectList[AnyJob], limit=limit).data]
    if as_json:
        show_json(jobs)
        return
    rows = (
        (
            job.id,
            job.status,
            job.lorry.adapter,
            job.lorry.queue and job.lorry.queue.place,
            job.lorry.expected_start if job.status is JobState.QUEUED else job.lorry.started_at,
            job.finished_at or job.lorry.expected_finish,
            job.method.type,
            job.created_at,
            job.lorry.revision,
            job.model,
        )
        for job in jobs
    )
    empty = "No jobs yet; start one with `lorry train sft --data FILE --name ADAPTER`."
    show_table(COLUMNS, rows, empty, wide=wide)


@app.command("show")
def show_one(job_id: JobId, as_json: JsonFlag = False) -> None:
    """Show one job."""
    with Client() as client:
        job = client.get(f"/admin/jobs/{part(whole_id(client, 'job', job_id))}", AnyJob).root
        show_job(job, as_json, latest_figures(client, job.id))


@app.command("logs")
def logs(
    job_id: JobId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Stay until the job has ended.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show the job's events, oldest first."""
    with Client() as client:
        job_id = part(whole_id(client, "job", job_id))
        if follow and not as_json:
            show_job(follow_job(client, job_id), as_json)
            return
        events = new_events(client, job_id, set())
    if as_json:
        show_json(events)
        return
    for event in events:
        show(*line_of(event))


@app.command("cancel")
def cancel(job_id: JobId, as_json: JsonFlag = False) -> None:
    """Cancel a job."""
    _act(job_id, "cancel", as_json)


@app.command("pause")
def pause(job_id: JobId, as_json: JsonFlag = False) -> None:
    """Pause a job at its next checkpoint."""
    _act(job_id, "pause", as_json)


@app.command("resume")
def resume(job_id: JobId, as_json: JsonFlag = False) -> None:
    """Resume a paused job."""
    _act(job_id, "resume", as_json)


def _act(job_id: str, action: str, as_json: bool) -> None:
    with Client() as client:
        whole = part(whole_id(client, "job", job_id))
        show_job(client.post(f"/admin/jobs/{whole}/{action}", AnyJob).root, as_json)


def show_job(job: JobObject, as_json: bool, figures: StepFigures | None = None) -> None:
    """Print one job as fields or JSON, with the *figures* of its latest step and with what to do next."""
    if as_json:
        show_json(job)
        return
    show_fields(
        [
            ("job", job.id),
            ("state", job.status),
            ("adapter", job.lorry.adapter),
            ("base", job.model),
            ("base digest", job.lorry.base_digest),
            ("method", job.method.type),
            ("doing", job.lorry.doing),
            ("gives way", "at its next checkpoint, to a job of a higher priority" if job.lorry.gives_way else None),
            ("place", _place(job)),
            ("waiting", job.lorry.queue and job.lorry.queue.reason),
            ("comes after", ", ".join(job.lorry.after) or None),
            ("needs", job.lorry.needed_bytes and f"about {job.lorry.needed_bytes / 1e9:.2f} GB of a device"),
            ("expected start", moment(job.lorry.expected_start)),
            ("expected end", moment(job.lorry.expected_finish)),
            ("step", figures and f"{figures.step} of {figures.total_steps}"),
            ("loss", figures and f"{figures.train_loss:.4g}"),
            ("remaining", _remaining(job)),
            ("duration", _duration(job)),
            ("created", moment(job.created_at)),
            ("started", moment(job.lorry.started_at)),
            ("finished", moment(job.finished_at)),
            ("attempt", job.lorry.attempt if job.lorry.attempt > 1 else None),
            *job.details(),
            ("unfit rows", "\n".join(rows.sentence(field) for field, rows in job.lorry.unfit_rows.items()) or None),
            ("revision", job.lorry.revision),
            ("error", job.error and job.error.message),
        ]
    )
    if job.lorry.revision and not job.lorry.revision.endswith("@1"):
        note(f"Next: lorry rollout start {job.lorry.revision} --steps 25,100")


def _place(job: JobObject) -> str | None:
    queue = job.lorry.queue
    return None if queue is None else f"{queue.place} of {queue.of} in the queue"


def _remaining(job: JobObject) -> str | None:
    texts = estimate_text(job.lorry.estimate, is_begun=job.status is JobState.RUNNING)
    return texts[0] if texts else None


def _duration(job: JobObject) -> str | None:
    if job.lorry.started_at is None:
        return None
    end = time.time() if job.finished_at is None else job.finished_at
    return length(end - job.lorry.started_at)
