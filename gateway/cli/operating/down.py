"""`lorry down`: Lorry's applications leave a Ray cluster."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from gateway.up.guardian import guard

app = typer.Typer()


@app.command("down")
def down(
    ray_address: Annotated[
        str,
        typer.Option(metavar="ADDRESS", help="The Ray cluster at HOST:PORT, of which this machine is a node."),
    ],
) -> None:
    """Drain gateways and engines that `lorry up --ray-address` left on a Ray cluster, and remove them from it."""
    command = [sys.executable, "-P", "-m", "gateway.up.cluster.attached", "--remove", "--ray-address", ray_address]
    raise typer.Exit(guard(command))
