"""`lorry feedback`: the ratings of answers, by revision and one by one."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from gateway.cli.client import Client, part
from gateway.cli.completion import names
from gateway.cli.output import Column, JsonFlag, WideFlag, moments, show_json, show_table
from gateway.objects.evidence import FeedbackObject, RatingSumObject
from gateway.objects.lists import ObjectList

app = typer.Typer(name="feedback", no_args_is_help=True)

SUM_COLUMNS: Final = (
    Column("REVISION"),
    Column("RATINGS", 1),
    Column("GOOD", 2),
    Column("BAD", 2),
    Column("MEAN", 1),
    Column("LAST", 3, moments),
)
RATING_COLUMNS: Final = (
    Column("RATED", 1, moments),
    Column("TENANT", 2),
    Column("SCORE"),
    Column("ANSWER"),
    Column("COMMENT", below=True),
)


@app.command("list")
def list_sums(
    model: Annotated[
        str | None,
        typer.Argument(metavar="MODEL", help="Adapter or base model; default all.", autocompletion=names.models),
    ] = None,
    wide: WideFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """List how many ratings each revision has, and their mean."""
    with Client() as client:
        sums = client.get("/admin/feedback", ObjectList[RatingSumObject], model=model).data
    if as_json:
        show_json(sums)
        return
    rows = ((s.revision, s.ratings, s.good, s.bad, f"{s.mean:.3f}", s.last_at) for s in sums)
    show_table(SUM_COLUMNS, rows, "No ratings yet: POST /v1/feedback.", wide=wide)


@app.command("show")
def show_ratings(
    revision: Annotated[
        str, typer.Argument(metavar="ADAPTER@N", help="A revision, or a base model.", autocompletion=names.revisions)
    ],
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Number of ratings.")] = 50,
    wide: WideFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """List the ratings of one revision with their comments, newest first."""
    with Client() as client:
        found = client.get(f"/admin/feedback/{part(revision)}", ObjectList[FeedbackObject], limit=limit).data
    if as_json:
        show_json(found)
        return
    rows = ((each.at, each.tenant, f"{each.score:g}", each.completion_id, each.comment) for each in found)
    show_table(RATING_COLUMNS, rows, f"No ratings of {revision}.", wide=wide)
