"""`lorry reproduce`: run the job of a revision again and report whether the same comes out."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from gateway.cli.client import Client
from gateway.cli.completion import names
from gateway.cli.errors import CommandFailed
from gateway.cli.following.job_progress import follow_job
from gateway.cli.output import Column, JsonFlag, note, show, show_fields, show_json, show_table
from gateway.cli.short_ids import revision_of_digest, whole_id
from gateway.objects.reproductions import ReproductionObject
from registry.contracts.reproductions.reproduction_report import ReproductionReport
from registry.jobs.job_state import JobState

_STEPS_SHOWN: Final = 10

app = typer.Typer()


@app.command("reproduce")
def reproduce(
    name: Annotated[
        str,
        typer.Argument(
            metavar="ADAPTER@N",
            help="A revision, or a job id repjob-... to show its report.",
            autocompletion=names.revisions,
        ),
    ],
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Stay until the report is there.")] = True,
    as_json: JsonFlag = False,
) -> None:
    """Run the job of a revision again and compare digest, weights and losses. Nothing is published.

    Exit code 0 if the result is the same byte for byte, 3 if it differs.
    """
    with Client() as client:
        if name.startswith("repjob-"):
            job = client.get(f"/admin/reproductions/{whole_id(client, 'job', name)}", ReproductionObject)
        else:
            name = revision_of_digest(client, name) or name
            job = client.post("/admin/reproductions", ReproductionObject, {"model": name})
            note(f"Job {job.id} is queued; Ctrl-C leaves it running.")
        if follow and not job.status.is_terminal:
            follow_job(client, job.id)
            job = client.get(f"/admin/reproductions/{job.id}", ReproductionObject)
    if as_json:
        show_json(job)
    else:
        _show(job)
    if job.error is not None or job.status is JobState.CANCELLED:
        why = job.error.message if job.error else "it was cancelled"
        raise CommandFailed(f"{job.model} could not be made again: {why}")
    if job.report is not None and not job.report.same_bytes:
        raise typer.Exit(3)


def _show(job: ReproductionObject) -> None:
    show_fields([("job", job.id), ("result", job.model), ("state", job.status), ("verdict", job.verdict)])
    if job.report is None or job.report.same_bytes:
        return
    _show_differences(job.report)


def _show_differences(report: ReproductionReport) -> None:
    facts = [(each.fact, each.recorded, each.now) for each in report.facts]
    show_table(
        _columns("FACT", "THEN", "NOW"), facts, "Libraries and machine are the same, as far as they were recorded."
    )
    groups = [
        (each.group, f"{each.differing}/{each.tensors}", f"{each.largest:.3g}", f"{each.relative:.3g}")
        for each in report.weights.groups
    ]
    show_table(_columns("WEIGHTS", "DIFFERING", "LARGEST", "RELATIVE"), groups, "No tensors in common.")
    for label, tensors in (("then", report.weights.only_recorded), ("now", report.weights.only_again)):
        if tensors:
            show(f"Only {label}: {', '.join(tensors)}")
    losses = report.losses
    show(f"Losses: {losses.differing} of {losses.compared} steps differ, by up to {losses.largest:.3g}")
    steps = [(each.step, each.recorded, each.again) for each in losses.steps[:_STEPS_SHOWN]]
    if steps:
        show_table(_columns("STEP", "THEN", "NOW"), steps, "")
    if losses.missing:
        show(f"{losses.missing} steps were reported by one of the two runs only.")


def _columns(*titles: str) -> list[Column]:
    return [Column(title) for title in titles]
