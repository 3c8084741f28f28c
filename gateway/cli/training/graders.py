"""`lorry graders`: check a grader, or try it on a sample."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.client import Client
from gateway.cli.errors import CommandFailed
from gateway.cli.output import JsonFlag, show, show_fields, show_json
from gateway.objects.graders import GraderRun, ValidGrader

app = typer.Typer(name="graders", no_args_is_help=True)

GraderFile = Annotated[Path, typer.Argument(metavar="FILE", help="JSON file with the grader.")]


@app.command("validate")
def validate(file: GraderFile, as_json: JsonFlag = False) -> None:
    """Check a grader as a fine-tuning job would."""
    with Client() as client:
        answer = client.post("/v1/fine_tuning/alpha/graders/validate", ValidGrader, {"grader": read_json(file)})
    if as_json:
        show_json(answer)
    else:
        show(f"{file}: a valid grader of the type {answer.grader['type']}")


@app.command("run")
def run(
    file: GraderFile,
    sample: Annotated[str, typer.Option("--sample", metavar="TEXT", help="The output of a model.")],
    item: Annotated[
        Path | None, typer.Option("--item", metavar="FILE", help="JSON file with a row of a data set.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Grade one sample."""
    body = {"grader": read_json(file), "model_sample": sample, "item": {} if item is None else read_json(item)}
    with Client() as client:
        answer = client.post("/v1/fine_tuning/alpha/graders/run", GraderRun, body)
    if as_json:
        show_json(answer)
        return
    show_fields([("reward", answer.reward), *answer.sub_rewards.items(), ("seconds", answer.metadata.execution_time)])
    faults = [f"{name}: {value}" for name, value in answer.metadata.errors if isinstance(value, str)]
    flags = [name for name, value in answer.metadata.errors if value is True]
    if flags:
        raise CommandFailed(f"the sample has no grade: {', '.join(flags)}; {'; '.join(faults)}")


def read_json(file: Path) -> Any:
    """Return the JSON in a file; `CommandFailed` names the file."""
    try:
        return json.loads(file.read_text(), parse_constant=_no_number)
    except OSError as exc:
        raise CommandFailed(f"{file}: {exc.strerror}") from exc
    except ValueError as exc:
        raise CommandFailed(f"{file}: is not JSON: {exc}") from exc


def _no_number(constant: str) -> Any:
    raise ValueError(f"{constant} is no number of JSON")
