"""`lorry models`: every name that a request may carry."""

from __future__ import annotations

from typing import Any

import typer

from gateway.cli.client import Client
from gateway.cli.output import JsonFlag, ago, show_fields, show_json, show_table

app = typer.Typer(name="models", no_args_is_help=True)


@app.command("list")
def list_models(as_json: JsonFlag = False) -> None:
    """List the names that `model` may have in a request."""
    models = Client().get("/v1/models")["data"]
    if as_json:
        show_json(models)
        return
    rows = ((m["id"], m["lorry"]["kind"], m["lorry"].get("base"), _about(m), ago(m["created"])) for m in models)
    show_table(("MODEL", "KIND", "BASE", "ABOUT", "CREATED"), rows, "No models.")


@app.command("show")
def show_model(name: str, as_json: JsonFlag = False) -> None:
    """Show one of them."""
    model = Client().get(f"/v1/models/{name}")
    if as_json:
        show_json(model)
        return
    show_fields([("model", model["id"]), ("owner", model["owned_by"]), *model["lorry"].items()])


def _about(model: dict[str, Any]) -> str | None:
    about = model["lorry"]
    if about["kind"] == "revision":
        return f"on {about['replicas']} replica(s)"
    if about["kind"] == "base":
        return f"{about['licence']}, {about['digest'][:12]}"
    target: str | None = about.get("stable") or about.get("revision")
    return target
