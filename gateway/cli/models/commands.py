"""`lorry models`: every name that a request may carry."""

from __future__ import annotations

import typer

from gateway.cli.client import Client
from gateway.cli.output import JsonFlag, ago, show_fields, show_json, show_table
from gateway.objects.lists import ObjectList
from gateway.objects.models import ModelObject

app = typer.Typer(name="models", no_args_is_help=True)


@app.command("list")
def list_models(as_json: JsonFlag = False) -> None:
    """List the names that `model` may have in a request."""
    with Client() as client:
        models = client.get("/v1/models", ObjectList[ModelObject]).data
    if as_json:
        show_json(models)
        return
    rows = ((m.id, m.lorry.kind, m.lorry.base_name, m.lorry.summary, ago(m.created)) for m in models)
    show_table(("MODEL", "KIND", "BASE", "ABOUT", "CREATED"), rows, "No models.")


@app.command("show")
def show_model(name: str, as_json: JsonFlag = False) -> None:
    """Show one model."""
    with Client() as client:
        model = client.get(f"/v1/models/{name}", ModelObject)
    if as_json:
        show_json(model)
        return
    show_fields([("model", model.id), ("owner", model.owned_by), *model.lorry])
