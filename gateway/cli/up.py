"""`lorry up`: everything on this machine, or on a Ray cluster, in the foreground."""

from __future__ import annotations

import sys
import time
from typing import Annotated, Final

import typer

from gateway.cli.errors import CommandFailed
from gateway.pools.hub_ids import is_hub_id
from gateway.up.guardian import guard
from gateway.up.launch import launched_at

app = typer.Typer()

HUBS: Final = ("huggingface", "modelscope")
"""The values of `gateway.models_settings.HubName`, which is not imported before the first line is printed."""


@app.command("up")
def up(
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port to serve on (default 8080).")] = None,
    host: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="IP address to listen on (default 127.0.0.1); others need a key to exist."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Base model: a Hugging Face folder, or OWNER/NAME of a hub, pulled if it is not here (default: the "
            "bundled one).",
        ),
    ] = None,
    hub: Annotated[
        str | None,
        typer.Option(metavar="HUB", help="huggingface or modelscope, for --model (default: settings [models] hub)."),
    ] = None,
    engine: Annotated[
        str,
        typer.Option(
            metavar="KIND", help="Kind of engine; auto takes what the settings say, else what suits the machine."
        ),
    ] = "auto",
    ray_address: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Deploy on the Ray cluster at HOST:PORT, of which this machine is a node; starts no Ray.",
        ),
    ] = None,
    detach: Annotated[
        bool,
        typer.Option("--detach", help="With --ray-address: leave Lorry there when it is ready; again: replace it."),
    ] = False,
) -> None:
    """Run gateway, engine, controller and trainer on Ray Serve until Ctrl-C; prints one line when it is ready."""
    launched = launched_at()
    # At once: what follows imports for a second, and for longer on a busy machine.
    print(f"{time.monotonic() - launched:5.1f} s  Starting Lorry", file=sys.stderr, flush=True)  # noqa: T201
    command = [sys.executable, "-P", "-m", *_program(ray_address, detach, hub), "--engine", engine]
    command += ["--launched", str(launched)]
    if host is not None:
        command += ["--host", host]
    if port is not None:
        command += ["--port", str(port)]
    if hub is not None:
        if hub not in HUBS:
            raise CommandFailed(f"--hub {hub!r} is none of {', '.join(HUBS)}")
        if model is None or not is_hub_id(model):
            raise CommandFailed("--hub goes with --model OWNER/NAME, a model of a hub")
        command += ["--hub", hub]
    if model is not None:
        command += ["--model", model]
    raise typer.Exit(guard(command))


def _program(ray_address: str | None, detach: bool, hub: str | None) -> list[str]:
    """Return the module that does it, with the flags that are its own."""
    if ray_address is None:
        if detach:
            raise CommandFailed("--detach goes with --ray-address; without a cluster Lorry ends with this command")
        return ["gateway.up.host"]
    if hub is not None:
        raise CommandFailed("--hub does not go with --ray-address: pull the model on each node, lorry models pull")
    return ["gateway.up.cluster.attached", "--ray-address", ray_address, *(["--detach"] if detach else [])]
