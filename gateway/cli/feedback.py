"""`lorry feedback`: the ratings of answers, by revision and one by one."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli.client import Client
from gateway.cli.output import JsonFlag, ago, show_json, show_table
from gateway.objects.evidence import FeedbackObject, RatingSumObject
from gateway.objects.lists import ObjectList

app = typer.Typer(name="feedback", no_args_is_help=True)


@app.command("list")
def list_sums(
    model: Annotated[str | None, typer.Argument(help="Adapter or base model; default all.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """List how many ratings each revision has, and their mean."""
    with Client() as client:
        sums = client.get("/admin/feedback", ObjectList[RatingSumObject], model=model).data
    if as_json:
        show_json(sums)
        return
    rows = ((s.revision, s.ratings, s.good, s.bad, f"{s.mean:.3f}", ago(s.last_at)) for s in sums)
    show_table(("REVISION", "RATINGS", "GOOD", "BAD", "MEAN", "LAST"), rows, "No ratings yet: POST /v1/feedback.")


@app.command("show")
def show_ratings(
    revision: Annotated[str, typer.Argument(help="NAME@N, or a base model.")],
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    as_json: JsonFlag = False,
) -> None:
    """List the ratings of one revision with their comments, newest first."""
    with Client() as client:
        found = client.get(f"/admin/feedback/{revision}", ObjectList[FeedbackObject], limit=limit).data
    if as_json:
        show_json(found)
        return
    rows = ((ago(each.at), each.tenant, f"{each.score:g}", each.completion_id, each.comment or None) for each in found)
    show_table(("WHEN", "TENANT", "SCORE", "ANSWER", "COMMENT"), rows, f"No ratings of {revision}.")
