"""`lorry lineage`: what a model, a job or a data file came from, and what was made of it."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli.client import Client, part
from gateway.cli.completion.arguments import ModelName
from gateway.cli.errors import CommandFailed
from gateway.cli.models.lineage_tree import tree_of
from gateway.cli.output import JsonFlag, show_json, show_lines
from gateway.objects.weights.lineage import LineageObject, ProvenanceStatement

app = typer.Typer()

FORMATS = ("tree", "json", "in-toto")


@app.command("lineage")
def lineage(
    name: ModelName,
    form: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="tree, json, or in-toto (a Statement v1 with SLSA v1).")
    ] = "tree",
    as_json: JsonFlag = False,
) -> None:
    """Show what a revision, adapter, base model, checkpoint, job or data file came from and what was made of it.

    A data file is named by its id or its sha256. Deleted parts are shown as far as others remember them.
    """
    if form not in FORMATS:
        raise CommandFailed(f"--format {form!r} is none of {', '.join(FORMATS)}")
    with Client() as client:
        if form == "in-toto":
            statement = client.get(f"/admin/provenance/{part(name)}", ProvenanceStatement)
            show_json(statement.model_dump(by_alias=True, exclude_none=True))
            return
        found = client.get(f"/admin/lineage/{part(name)}", LineageObject)
    if as_json or form == "json":
        show_json(found)
    else:
        show_lines(tree_of(found))
