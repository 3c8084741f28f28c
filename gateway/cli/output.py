"""How commands print results: tables for people, one JSON document with `--json`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


def stdout_console() -> Console:
    """Return a console on standard output."""
    return Console(highlight=False)


def stderr_console() -> Console:
    """Return a console on standard error."""
    return Console(stderr=True, highlight=False)


def show(content: RenderableType, *, soft_wrap: bool = False) -> None:
    """Print *content*, which may have markup, on standard output."""
    stdout_console().print(content, soft_wrap=soft_wrap)


def note(text: str) -> None:
    """Print a remark for people on standard error."""
    stderr_console().print(text)


def show_json(value: Any) -> None:
    """Print *value* (an API object, or a list of API objects, or plain JSON) as indented JSON, never wrapped."""
    from pydantic_core import to_jsonable_python  # 20 ms that `lorry --help` does not need

    typer.echo(json.dumps(to_jsonable_python(value), indent=2))


def show_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], empty: str) -> None:
    """Print a table, or the line *empty* when there is no row. None shows as a dash."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    count = 0
    for row in rows:
        table.add_row(*("-" if cell is None else escape(str(cell)) for cell in row))
        count += 1
    show(table if count else empty)


def show_fields(fields: Iterable[tuple[str, Any]]) -> None:
    """Print name and value, one line for each; a value of None is left out."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in fields:
        if value is not None:
            table.add_row(name, escape(str(value)))
    show(table)


def fail(message: str) -> None:
    """Print an error message on standard error."""
    stderr_console().print(f"[red]lorry:[/red] {escape(message)}", soft_wrap=True)


def ago(at: float | None) -> str | None:
    """Return how long ago *at* (unix seconds) was, in one unit: `3 h ago`."""
    if at is None:
        return None
    seconds = max(0, int(time.time() - at))
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"
