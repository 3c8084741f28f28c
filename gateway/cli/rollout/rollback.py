"""`lorry rollback`: give an adapter's traffic back to a revision that was stable before."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli.client import Client
from gateway.cli.output import JsonFlag
from gateway.cli.rollout.commands import show_rollout

app = typer.Typer()


@app.command("rollback")
def rollback(
    name: Annotated[str, typer.Argument(help="Adapter.")],
    to: Annotated[
        int | None, typer.Option(help="Number of the revision; default: the one that was stable before.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Abort the open rollout, or make the former stable revision stable again."""
    show_rollout(Client().post(f"/admin/adapters/{name}/rollback", {} if to is None else {"to": to}), as_json)
