"""`lorry up`: everything on this machine, in the foreground."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from gateway.up.guardian import guard
from gateway.up.launch import launched_at

app = typer.Typer()


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
        Path | None,
        typer.Option(metavar="FOLDER", help="Local Hugging Face folder of the base model (default: the bundled one)."),
    ] = None,
    engine: Annotated[
        str,
        typer.Option(
            metavar="KIND", help="Kind of engine; auto takes what the settings say, else what suits the machine."
        ),
    ] = "auto",
) -> None:
    """Run gateway, engine, controller and trainer on Ray Serve until Ctrl-C; prints one line when it is ready."""
    launched = launched_at()
    # At once: what follows imports for a second, and for longer on a busy machine.
    print(f"{time.monotonic() - launched:5.1f} s  Starting Lorry", file=sys.stderr, flush=True)  # noqa: T201
    command = [sys.executable, "-P", "-m", "gateway.up.host", "--engine", engine]
    command += ["--launched", str(launched)]
    if host is not None:
        command += ["--host", host]
    if port is not None:
        command += ["--port", str(port)]
    if model is not None:
        command += ["--model", str(model)]
    raise typer.Exit(guard(command))
