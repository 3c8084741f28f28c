"""`lorry restore`: write a backup into the empty registry of this machine."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.output import JsonFlag, note, show_json

app = typer.Typer()


@app.command("restore")
def restore(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="What `lorry backup` wrote.")],
    as_json: JsonFlag = False,
) -> None:
    """Write the backup in FOLDER into the registry of LORRY_HOME and LORRY_CONFIG, which must be empty.

    The registry may be on SQLite or PostgreSQL, whichever the backup was made of. Start Lorry afterwards.
    """
    from gateway.cli.backups.home import restore_home

    report = restore_home(folder)
    if as_json:
        show_json(asdict(report))
    else:
        note(f"Restored {report.rows} rows and {report.artifacts} artifacts. Start Lorry with `lorry up`.")
    for digest in report.lost:
        note(f"The backup has no artifact {digest}, to which its rows refer.")
    if report.lost:
        raise typer.Exit(1)
