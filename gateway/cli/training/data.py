"""`lorry data`: check a training file before it is uploaded, or make one of ratings."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.client import Client
from gateway.cli.completion.arguments import ModelName
from gateway.cli.errors import CommandFailed
from gateway.cli.output import JsonFlag, show, show_json
from gateway.objects.files import FileObject
from registry.contracts.training_formats import check_training_lines
from registry.contracts.uploads.training_upload import check_training_upload
from registry.errors import TrainingFileInvalid

app = typer.Typer(name="data", no_args_is_help=True)


@app.command("from-feedback")
def from_feedback(
    model: ModelName,
    as_json: JsonFlag = False,
) -> None:
    """Make a training file for the method kto of the chats that came with ratings."""
    with Client() as client:
        made = client.post("/v1/files/feedback", FileObject, {"model": model})
    if as_json:
        show_json(made)
        return
    show(f"{made.id} has {made.bytes} bytes; learn from it with `lorry train kto --file {made.id}`")


@app.command("check")
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSONL file, one example a line.")],
    as_json: JsonFlag = False,
) -> None:
    """Check every line as an upload would; needs no gateway."""
    try:
        with file.open("rb") as lines:
            kind, rows = check_training_upload(lines)
            lines.seek(0)
            summary = check_training_lines(lines, wanted=kind.formats) if kind.formats else None
    except OSError as exc:
        raise CommandFailed(f"{file}: {exc.strerror}") from exc
    except TrainingFileInvalid as exc:
        raise CommandFailed(f"{file}: {exc}") from exc
    if as_json:
        show_json({"method": kind.method_name(), "rows": rows} | ({} if summary is None else asdict(summary)))
        return
    if summary is None:
        show(f"{file}: {rows} rows for the method {kind.method_name()}, all well formed")
        return
    show(f"{file}: {rows} {summary.format}, all well formed")
    if summary.tool_rows:
        show(f"{summary.tool_rows} of them have tools, in the form that the base model's chat template has, or Hermes'")
    if summary.pictures:
        show(
            f"{summary.pictures} pictures: the base model has to take pictures; those outside of the file were not read"
        )
    for field, count in summary.ignored.items():
        show(f"not trained on: {field} of {count} messages")
