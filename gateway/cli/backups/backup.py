"""`lorry backup`: copy the registry of this machine, with its artifacts, while Lorry runs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.output import JsonFlag, note, show_json

app = typer.Typer()


@app.command("backup")
def backup(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Made, or holds an earlier backup to renew.")],
    as_json: JsonFlag = False,
) -> None:
    """Copy the registry of LORRY_HOME and LORRY_CONFIG, with its artifacts, into FOLDER; Lorry may run meanwhile.

    FOLDER gets the form of a LORRY_HOME, on SQLite whatever the database is. Exit code 1 when artifacts are missing.
    """
    from gateway.cli.backups.home import back_up_home

    report = back_up_home(folder)
    if as_json:
        show_json(asdict(report))
    else:
        note(
            f"{folder} has {report.rows} rows and {report.artifacts} artifacts, {report.copied} of them new. "
            f"Bring it back with `lorry restore {folder}` in an empty LORRY_HOME."
        )
    for digest in report.lost:
        note(f"The registry refers to the artifact {digest}, which is not in its folder of artifacts.")
    if report.lost:
        raise typer.Exit(1)
