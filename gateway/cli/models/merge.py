"""`lorry merge`: publish a revision's base model with the adapter in its weights."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli.client import Client
from gateway.cli.completion.arguments import RevisionName
from gateway.cli.errors import CommandFailed
from gateway.cli.following.job_progress import follow_job
from gateway.cli.output import JsonFlag, note, show_fields, show_json
from gateway.cli.short_ids import revision_of_digest
from gateway.objects.weights.merges import MergeObject

app = typer.Typer()


@app.command("merge")
def merge(
    name: RevisionName,
    series: Annotated[
        str | None,
        typer.Option(
            "--name", metavar="NAME", help="First part of the checkpoint's name; the adapter's name if left out."
        ),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Wait for the end and show progress.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Merge a revision into its base model. The result is a checkpoint, compared with base and adapter."""
    with Client(flags={"name": "--name", "model": "ADAPTER@N"}) as client:
        job = start_merge(client, name, series)
        if follow:
            note(f"Job {job.id} is queued; Ctrl-C leaves it running.")
            job = followed(client, job)
    show_merge(job, as_json)


def start_merge(client: Client, name: str, series: str | None) -> MergeObject:
    """Queue the merge of the revision *name*, or of the one whose digest begins so."""
    body = {"model": revision_of_digest(client, name) or name, "name": series}
    return client.post("/admin/merges", MergeObject, {field: value for field, value in body.items() if value})


def followed(client: Client, job: MergeObject) -> MergeObject:
    """Show what the job does until it has ended; `CommandFailed` if it did not succeed."""
    follow_job(client, job.id)
    job = client.get(f"/admin/merges/{job.id}", MergeObject)
    if job.error is not None:
        raise CommandFailed(f"the merge failed: {job.error.message}")
    return job


def show_merge(job: MergeObject, as_json: bool) -> None:
    """Print the job."""
    if as_json:
        show_json(job)
        return
    show_fields(
        [
            ("job", job.id),
            ("revision", job.model),
            ("base model", job.base),
            ("state", job.status),
            ("checkpoint", job.checkpoint),
        ]
    )
