"""`lorry rollback`: give an adapter's traffic back to a revision that was stable before."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli.client import Client, part
from gateway.cli.completion.arguments import AdapterName
from gateway.cli.output import JsonFlag
from gateway.cli.rollout.commands import show_rollout
from gateway.objects.rollouts import RolloutStory

app = typer.Typer()


@app.command("rollback")
def rollback(
    name: AdapterName,
    to: Annotated[
        int | None, typer.Option(help="Number of the revision; default: the one that was stable before.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Abort the open rollout, or make the former stable revision stable again."""
    with Client() as client:
        body = {} if to is None else {"to": to}
        show_rollout(client.post(f"/admin/adapters/{part(name)}/rollback", RolloutStory, body), as_json)
