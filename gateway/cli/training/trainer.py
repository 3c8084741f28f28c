"""`lorry trainer`: work on jobs in the foreground, on any machine that reaches the registry."""

from __future__ import annotations

import os
import sys

import typer

app = typer.Typer()


@app.command("trainer")
def trainer() -> None:
    """Work on the registry's jobs on this machine until Ctrl-C, which gives a job back with its checkpoints.

    Several may run, on one machine or on many; each job goes to a worker whose device has room for it.
    """
    # The process becomes the trainer, so that signals and exit code are the trainer's own.
    os.execv(sys.executable, [sys.executable, "-P", "-m", "trainer"])  # noqa: S606 - no shell is wanted
