"""The lines of a table: columns that do not fit a terminal are left out whole, and no word is ever broken. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from rich.cells import cell_len
from rich.text import Text

from gateway.cli.tables.forms import NOTHING, Form, Reader, plain, printable

GAP: Final = 2
"""Blanks between two columns."""
INDENT: Final = 4
"""Blanks before the lines below a row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column with its importance."""

    title: str = field(kw_only=False)
    rank: int = field(default=0, kw_only=False)
    """Where a terminal is narrow, columns of a low rank get their room first. Columns of rank 0 are always shown."""
    form: Form = field(default=plain, kw_only=False)
    below: bool = False
    """Whether the column is never left out: where it does not fit it stands in lines below its row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Screen:
    """The screen, pipe or file that a table is printed on."""

    reader: Reader
    width: int
    """Cells in a line of the terminal; counts for `Reader.TERMINAL` only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A table as it is printed."""

    lines: list[Text]
    left_out: list[str]
    """Titles of the columns for which there was no room."""


def laid_out(
    columns: Sequence[Column], rows: Iterable[Sequence[Any]], screen: Screen, styles: Sequence[str] = ()
) -> Layout:
    """Return the lines of a table; *styles* has the colour of each row."""
    there = list(rows)
    written = [column.form([row[at] for row in there], screen.reader) for at, column in enumerate(columns)]
    titles = [_title(column, screen.reader) for column in columns]
    widths = [max(map(cell_len, (title, *cells))) for title, cells in zip(titles, written, strict=True)]
    is_narrow = screen.reader is Reader.TERMINAL
    kept = _kept(columns, widths, screen.width) if is_narrow else list(range(len(columns)))
    below = [at for at, column in enumerate(columns) if column.below and at not in kept]
    lines = [Text(_line(titles, widths, kept), style="bold")]
    for number in range(len(there)):
        cells, style = [column[number] for column in written], styles[number] if styles else ""
        lines.append(Text(_line(cells, widths, kept), style=style))
        lines += [
            Text(line)
            for at in below
            if cells[at] != NOTHING
            for line in indented(f"{titles[at].lower()}: {cells[at]}" if len(below) > 1 else cells[at], screen.width)
        ]
    gone = [column.title for at, column in enumerate(columns) if at not in kept and at not in below]
    return Layout(lines=lines, left_out=gone)


def _title(column: Column, reader: Reader) -> str:
    """Return the title; programs count words, so for them it is one."""
    return column.title.replace(" ", "-") if reader is Reader.PROGRAM else column.title


def _kept(columns: Sequence[Column], widths: Sequence[int], width: int) -> list[int]:
    """Return the places of the columns that fit: the more important ones have the first choice of the room."""
    kept, room = [], width + GAP
    for at in sorted(range(len(columns)), key=lambda at: (columns[at].below, columns[at].rank)):
        needed = widths[at] + GAP
        if needed <= room or (columns[at].rank == 0 and not columns[at].below):
            kept.append(at)
            room -= needed
    return sorted(kept)


def _line(cells: Sequence[str], widths: Sequence[int], kept: Sequence[int]) -> str:
    padded = [cells[at] + " " * (widths[at] - cell_len(cells[at]) + GAP) for at in kept]
    return "".join(padded).rstrip()


def indented(text: str, width: int) -> list[str]:
    """Return the lines of *text* below a row."""
    return [" " * INDENT + line for line in broken_at_blanks(text, width - INDENT)]


def broken_at_blanks(text: str, width: int) -> list[str]:
    """Return *text* in lines of at most *width* cells; a longer word has a line of its own and stays whole."""
    lines: list[str] = []
    line = ""
    for word in text.split(" "):
        longer = f"{line} {word}" if line else word
        if line and cell_len(longer) > width:
            lines.append(line)
            longer = word
        line = longer
    return [*lines, line]


def field_lines(fields: Iterable[tuple[str, Any]], screen: Screen) -> list[Text]:
    """Return name and value of each field; a value of several lines continues below itself, or is a field for each."""
    given = [(name, str(value)) for name, value in fields if value is not None and value != ""]
    names = max((cell_len(name) for name, _ in given), default=0)
    lines = []
    for name, value in given:
        parts = [printable(part) for part in value.split("\n")]
        if screen.reader is Reader.TERMINAL:
            parts = [line for part in parts for line in broken_at_blanks(part, screen.width - names - GAP)]
        for number, part in enumerate(parts):
            title = name if number == 0 or screen.reader is Reader.PROGRAM else ""
            lines.append(Text.assemble((title + " " * (names - cell_len(title) + GAP), "bold"), part))
    return lines


def sentence_lines(text: str, screen: Screen, style: str = "") -> list[Text]:
    """Return *text* in lines that fit a terminal, in one line for others."""
    parts = broken_at_blanks(text, screen.width) if screen.reader is Reader.TERMINAL else [text]
    return [Text(part, style=style) for part in parts]
