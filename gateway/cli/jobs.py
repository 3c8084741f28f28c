"""`lorry jobs`: list, show, follow, cancel, pause, resume."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gateway.cli.client import Client
from gateway.cli.output import JsonFlag, ago, err, out, show_fields, show_json, show_table

app = typer.Typer(name="jobs", no_args_is_help=True)

JobId = Annotated[str, typer.Argument(help="Job id, ftjob-... or pubjob-...")]
_ENDED = ("succeeded", "failed", "cancelled")
_POLL_S = 0.5
_PAGE = 100


@app.command("list")
def list_jobs(limit: Annotated[int, typer.Option(min=1, max=1000)] = 20, as_json: JsonFlag = False) -> None:
    """List jobs, newest first."""
    jobs = Client().get("/admin/jobs", limit=limit)["data"]
    if as_json:
        show_json(jobs)
        return
    rows = (
        (
            job["id"],
            job["method"]["type"],
            job["status"],
            job["lorry"]["adapter"],
            job["model"],
            job["lorry"]["revision"],
            ago(job["created_at"]),
        )
        for job in jobs
    )
    empty = "No jobs yet; start one with `lorry train sft --data FILE --name ADAPTER`."
    show_table(("JOB", "METHOD", "STATE", "ADAPTER", "BASE", "REVISION", "CREATED"), rows, empty)


@app.command("show")
def show(job_id: JobId, as_json: JsonFlag = False) -> None:
    """Show one job."""
    show_job(Client().get(f"/admin/jobs/{job_id}"), as_json)


@app.command("logs")
def logs(
    job_id: JobId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Stay until the job has ended.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show the job's events, oldest first."""
    client = Client()
    if follow and not as_json:
        show_job(follow_job(client, job_id), as_json)
        return
    events = _events(client, job_id)
    if as_json:
        show_json(events)
        return
    for event in events:
        out.print(_line(event))


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
    """Queue a paused job again."""
    _act(job_id, "resume", as_json)


def follow_job(client: Client, job_id: str) -> Any:
    """Show events and a progress bar until the job has ended; the job."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    seen: set[str] = set()
    with Progress(*columns, console=err, transient=True) as bar:
        line = bar.add_task("waiting for the trainer", total=None)
        while True:
            job = client.get(f"/admin/jobs/{job_id}")
            for event in _events(client, job_id, seen):
                if event["type"] == "metrics":
                    figures = event["data"]
                    text = f"loss {figures['train_loss']:.3f}"
                    bar.update(line, completed=figures["step"], total=figures["total_steps"], description=text)
                else:
                    bar.console.print(_line(event))
            if job["status"] in _ENDED or job["status"] == "paused":
                return job
            time.sleep(_POLL_S)


def _events(client: Client, job_id: str, seen: set[str] | None = None) -> list[Any]:
    """The job's events that are not in *seen*, oldest first; *seen* holds them afterwards."""
    seen = set() if seen is None else seen
    fresh = []
    for event in _newest_first(client, job_id):
        if event["id"] in seen:
            break
        fresh.append(event)
    seen.update(event["id"] for event in fresh)
    return fresh[::-1]


def _newest_first(client: Client, job_id: str) -> Iterator[Any]:
    after = None
    while True:
        page = client.get(f"/admin/jobs/{job_id}/events", after=after, limit=_PAGE)
        yield from page["data"]
        if not page["has_more"]:
            return
        after = page["last_id"]


def _line(event: dict[str, Any]) -> str:
    at = time.strftime("%H:%M:%S", time.localtime(event["created_at"]))
    colour = {"warn": "yellow", "error": "red"}.get(event["level"])
    message = escape(event["message"])
    return f"{at}  [{colour}]{message}[/{colour}]" if colour else f"{at}  {message}"


def _act(job_id: str, action: str, as_json: bool) -> None:
    show_job(Client().post(f"/admin/jobs/{job_id}/{action}"), as_json)


def show_job(job: dict[str, Any], as_json: bool) -> None:
    """One job as fields or JSON, with what to do next."""
    if as_json:
        show_json(job)
        return
    ours, hyperparameters = job["lorry"], job.get("hyperparameters", {})
    show_fields(
        [
            ("job", job["id"]),
            ("state", job["status"]),
            ("adapter", ours["adapter"]),
            ("base", job["model"]),
            ("method", job["method"]["type"]),
            ("hyperparameters", ", ".join(f"{key} {value}" for key, value in hyperparameters.items()) or None),
            ("seed", job.get("seed")),
            ("trained tokens", job.get("trained_tokens")),
            ("revision", ours["revision"]),
            ("model name", job.get("fine_tuned_model")),
            ("error", job["error"] and job["error"]["message"]),
        ]
    )
    if ours["revision"] and not ours["revision"].endswith("@1"):
        out.print(f"Next: lorry rollout start {ours['revision']} --steps 25,100")
