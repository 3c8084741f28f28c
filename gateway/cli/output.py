"""How commands print: tables and fields for people, lines for programs, one JSON document with `--json`.

Results go to standard output, remarks and errors to standard error. At a terminal a table leaves out whole columns that
do not fit, the least important ones first, and a remark names them. A pipe or a file gets every column, every id whole,
and one line for each row. Nothing here breaks a word or an id.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from gateway.cli.tables.forms import (
    Reader,
    ago,
    clock_times,
    iso_time,
    length,
    local_and_ago,
    moments,
    numbers_of_revisions,
    printable,
    short_digests,
    short_ids,
)
from gateway.cli.tables.layout import Column, Screen, broken_at_blanks, field_lines, laid_out

__all__ = [
    "Column",
    "JsonFlag",
    "Screen",
    "WideFlag",
    "ago",
    "clock_times",
    "fail",
    "length",
    "moment",
    "moments",
    "note",
    "note_left_out",
    "numbers_of_revisions",
    "screen_of",
    "short_digest",
    "short_digests",
    "short_id",
    "short_ids",
    "show",
    "show_fields",
    "show_json",
    "show_lines",
    "show_table",
    "stderr_console",
    "stdout_console",
    "warn",
]

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
WideFlag = Annotated[
    bool, typer.Option("--wide", "-w", help="Print every column and whole ids, however narrow the terminal is.")
]


def stdout_console() -> Console:
    """Return a console on standard output."""
    return Console(highlight=False)


def stderr_console() -> Console:
    """Return a console on standard error."""
    return Console(stderr=True, highlight=False)


def screen_of(*, wide: bool = False) -> Screen:
    """Return who reads standard output, and how wide it is."""
    is_terminal = sys.stdout.isatty()
    reader = Reader.PROGRAM if not is_terminal else Reader.WIDE if wide else Reader.TERMINAL
    return Screen(reader=reader, width=stdout_console().width)


def show(text: str, style: str = "") -> None:
    """Print a sentence on standard output, at a terminal in lines that end at blanks."""
    _print(stdout_console(), text, style, is_terminal=sys.stdout.isatty())


def note(text: str) -> None:
    """Print a remark for people on standard error."""
    _print(stderr_console(), text, "", is_terminal=sys.stderr.isatty())


def warn(text: str) -> None:
    """Print a remark on standard error that something is probably not as it was meant."""
    _print(stderr_console(), f"lorry: warning: {text}", "yellow", is_terminal=sys.stderr.isatty())


def fail(message: str) -> None:
    """Print an error message on standard error; lines of *message* stay lines."""
    for number, line in enumerate(message.split("\n")):
        start = "lorry: " if number == 0 else ""
        stderr_console().print(Text.assemble((start, "red"), printable(line)), soft_wrap=True)


def show_lines(lines: Iterable[Text]) -> None:
    """Print lines that were laid out for `screen_of`."""
    console = stdout_console()
    for line in lines:
        console.print(line, soft_wrap=True)


def show_json(value: Any) -> None:
    """Print *value* (an API object, or a list of API objects, or plain JSON) as indented JSON, never wrapped."""
    from pydantic_core import to_jsonable_python  # 20 ms that `lorry --help` does not need

    typer.echo(json.dumps(to_jsonable_python(value), indent=2))


def show_table(columns: Sequence[Column], rows: Iterable[Sequence[Any]], empty: str, *, wide: bool = False) -> None:
    """Print a table, or the remark *empty* when there is no row."""
    there = list(rows)
    if not there:
        note(empty)
        return
    screen = screen_of(wide=wide)
    layout = laid_out(columns, there, screen)
    show_lines(layout.lines)
    note_left_out(layout.left_out, screen)


def note_left_out(titles: Sequence[str], screen: Screen) -> None:
    """Print which columns had no room, and how to see them."""
    if titles:
        note(f"{screen.width} columns have no room for {', '.join(titles)}: see --wide or --json.")


def show_fields(fields: Iterable[tuple[str, Any]]) -> None:
    """Print name and value, one line for each; what has no value is left out."""
    show_lines(field_lines(fields, screen_of()))


def moment(at: float | None) -> str | None:
    """Return unix seconds as a field shows them: local time and how long ago at a terminal, else ISO 8601."""
    if at is None:
        return None
    return iso_time(at) if screen_of().reader is Reader.PROGRAM else local_and_ago(at)


def short_id(whole: str) -> str:
    """Return an id as a sentence shows it: short at a terminal, else whole."""
    return short_ids([whole], screen_of().reader)[0]


def short_digest(whole: str) -> str:
    """Return a digest as a sentence shows it: short at a terminal, else whole."""
    return short_digests([whole], screen_of().reader)[0]


def _print(console: Console, text: str, style: str, *, is_terminal: bool) -> None:
    for line in text.split("\n"):
        clean = printable(line)
        for part in broken_at_blanks(clean, console.width) if is_terminal else [clean]:
            console.print(Text(part, style=style), soft_wrap=True)
