"""`lorry data`: convert, check and review training data before it is trained on, or make a file of ratings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from gateway.cli.client import Client
from gateway.cli.completion.arguments import ModelName
from gateway.cli.errors import CommandFailed
from gateway.cli.output import JsonFlag, note, show, show_json, warn
from gateway.objects.files import FileObject

app = typer.Typer(name="data", no_args_is_help=True)
FileArgument = Annotated[
    Path, typer.Argument(metavar="FILE", help="JSONL file, one example a line, or the id of an uploaded one.")
]
_LISTED_PLACES: Final = 10


@app.command("convert")
def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="JSONL, JSON, CSV, TSV or Parquet file; or a data set of Hugging Face (hf://datasets/OWNER/NAME@REVISION/"
            "FILES) or ModelScope (ms://datasets/...).",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The JSONL file to write.")],
    form: Annotated[
        str | None,
        typer.Option(
            metavar="FORM", help="Form of the rows, where their fields do not show it: openai, sharegpt, alpaca, ..."
        ),
    ] = None,
    most_dropped: Annotated[
        float, typer.Option(min=0, max=100, help="Percent of the rows that may be left out before nothing is written.")
    ] = 1.0,
    as_json: JsonFlag = False,
) -> None:
    """Write data of another form as training lines. Needs no gateway.

    Rows that no job could train on are left out; each is counted with its reason and line.
    """
    from dataclasses import asdict

    from corpus.converting import convert as convert_rows
    from corpus.errors import CorpusError
    from corpus.forms.catalog import BY_NAME

    if form is not None and form not in BY_NAME:
        raise CommandFailed(f"--form {form}: there are {', '.join(BY_NAME)}")
    try:
        done = convert_rows(source, out, form, most_dropped / 100)
    except CorpusError as exc:
        raise CommandFailed(str(exc)) from exc
    if as_json:
        show_json({"out": str(out), **asdict(done)})
        return
    show(f"{out}: {done.written} of {done.read} rows, of the form {done.form}")
    for origin in done.origins:
        at = f" at {origin.revision}" if origin.revision else ""
        note(f"from {origin.name}{at}, sha256 {origin.sha256}")
    for reason, places in done.dropped.items():
        more = f" and {len(places) - _LISTED_PLACES} more" if len(places) > _LISTED_PLACES else ""
        warn(f"left out: {reason}: {', '.join(places[:_LISTED_PLACES])}{more}")
    show(f"Look at it with `lorry data check {out}`.")


@app.command("check")
def check(
    file: FileArgument,
    model: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Folder or name of the base model whose tokenizer counts the tokens."),
    ] = None,
    validation: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Validation file, to find rows that both files have.")
    ] = None,
    max_length: Annotated[int, typer.Option(min=16, help="Tokens that a row may have in the job.")] = 1024,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the report as one HTML page too.")] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Draws the rows for review; else the file's bytes do.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Report on a training file: faults, lengths, repeats, leaks, secrets, odd rows.

    Needs a gateway for the id of an uploaded file alone. Exit code 1 if an upload would refuse the file.
    """
    from corpus.errors import CorpusError
    from corpus.examination import Wishes, examine
    from corpus.page.page import page_of
    from gateway.cli.training.model_folder import model_folder
    from gateway.cli.training.report_shown import show_report
    from gateway.cli.training.training_file import named_file

    folder = None if model is None else model_folder(model)
    wishes = Wishes(
        model=folder,
        model_name=folder.name if folder else None,
        validation=validation,
        max_length=max_length,
        seed=seed,
    )
    try:
        with named_file(file) as found:
            report = examine(found.path, wishes, found.name)
        if html is not None:
            html.write_text(page_of(report), encoding="utf-8")
    except CorpusError as exc:
        raise CommandFailed(str(exc)) from exc
    except OSError as exc:
        raise CommandFailed(f"{html}: {exc.strerror}") from exc
    if as_json:
        show_json(report)
    else:
        show_report(report)
        if html is not None:
            show(f"The page: {html}")
    if report.level == "error":
        faults = [finding.text for finding in report.findings if finding.level == "error"]
        raise CommandFailed(f"{file}: {faults[0]}" + (f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""))


@app.command("review")
def review(
    file: FileArgument,
    sheet: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The sheet (default: the file's name and .review.csv).")
    ] = None,
    sign: Annotated[
        bool, typer.Option("--sign", help="Send the filled sheet to the gateway, as the owner of the key.")
    ] = False,
    seed: Annotated[int | None, typer.Option(min=0, help="Draws the rows; else the file's bytes do.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Write a sheet of drawn rows for a person to read, then sign it.

    5 % of the rows are drawn, at most 500. Write good or bad beside each, with a note where it helps, and call the
    command again with --sign. Revisions that are trained on these bytes remember who signed, and how many were bad.
    """
    from corpus.errors import CorpusError
    from corpus.review_sheet import draw, read_sheet, write_sheet
    from gateway.cli.training.training_file import named_file
    from gateway.objects.data_reviews import DataReviewObject

    try:
        with named_file(file) as found:
            rows = draw(found.path, seed)
        path = sheet or found.beside.with_name(f"{found.beside.name}.review.csv")
        if not sign:
            if path.exists():
                raise CommandFailed(f"{path} is there already; fill it in and give --sign, or remove it")
            write_sheet(rows, path)
            if as_json:
                show_json({"sheet": str(path), "rows": len(rows.texts), "seed": rows.seed})
                return
            show(f"{path}: {len(rows.texts)} of {rows.rows} rows to read; write good or bad beside each, then")
            show(f"`lorry data review {file} --sign`")
            return
        verdicts = read_sheet(path, rows)
    except CorpusError as exc:
        raise CommandFailed(str(exc)) from exc
    except OSError as exc:
        raise CommandFailed(f"{exc.filename or file}: {exc.strerror}") from exc
    body = {
        "sha256": rows.sha256,
        "seed": rows.seed,
        "rows": rows.rows,
        "verdicts": [{"line": each.line, "verdict": each.verdict, "note": each.note} for each in verdicts],
    }
    with Client() as client:
        signed = client.post("/admin/data_reviews", DataReviewObject, body)
    if as_json:
        show_json(signed)
        return
    show(f"{signed.id}: signed by {signed.reviewer}: {signed.rows} rows read, {signed.bad} of them bad")


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
