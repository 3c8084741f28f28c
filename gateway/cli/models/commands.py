"""`lorry models`: every name that a request may carry."""

from __future__ import annotations

from typing import Any, Final

import typer

from gateway.cli.client import Client, part
from gateway.cli.completion.arguments import ModelName
from gateway.cli.output import Column, JsonFlag, WideFlag, moment, moments, show_fields, show_json, show_table
from gateway.objects.lists import ObjectList
from gateway.objects.models import ModelObject

app = typer.Typer(name="models", no_args_is_help=True)

COLUMNS: Final = (
    Column("MODEL"),
    Column("KIND", 1),
    Column("BASE", 3),
    Column("CREATED", 4, moments),
    Column("ABOUT", 2, below=True),
)


@app.command("list")
def list_models(wide: WideFlag = False, as_json: JsonFlag = False) -> None:
    """List the names that `model` may have in a request."""
    with Client() as client:
        models = client.get("/v1/models", ObjectList[ModelObject]).data
    if as_json:
        show_json(models)
        return
    rows = ((m.id, m.lorry.kind, m.lorry.base_name, m.created, m.lorry.summary) for m in models)
    show_table(COLUMNS, rows, "No models.", wide=wide)


@app.command("show")
def show_model(name: ModelName, as_json: JsonFlag = False) -> None:
    """Show one model."""
    with Client() as client:
        model = client.get(f"/v1/models/{part(name)}", ModelObject)
    if as_json:
        show_json(model)
        return
    facts = [("model", model.id), ("owner", model.owned_by), ("created", moment(model.created))]
    show_fields([*facts, *(_fact(name, value) for name, value in model.lorry)])


def _fact(name: str, value: Any) -> tuple[str, Any]:
    return name.removesuffix("_at").replace("_", " "), moment(value) if name.endswith("_at") else value
