"""How commands show things: tables for people, one JSON document with `--json`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


def show_json(value: Any) -> None:
    """*value* as indented JSON on stdout, never wrapped."""
    typer.echo(json.dumps(value, indent=2))


def show_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], empty: str) -> None:
    """A table, or the line *empty* when there is no row. None shows as a dash."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    count = 0
    for row in rows:
        table.add_row(*("-" if cell is None else escape(str(cell)) for cell in row))
        count += 1
    if count:
        out.print(table)
    else:
        out.print(empty)


def show_fields(fields: Iterable[tuple[str, Any]]) -> None:
    """Name and value, a line each; None is left out."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in fields:
        if value is not None:
            table.add_row(name, escape(str(value)))
    out.print(table)


def fail(message: str) -> None:
    """*message* on stderr."""
    err.print(f"[red]lorry:[/red] {escape(message)}", soft_wrap=True)


def ago(at: float | None) -> str | None:
    """How long ago *at* (unix seconds) was, in one unit."""
    if at is None:
        return None
    seconds = max(0, int(time.time() - at))
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"
