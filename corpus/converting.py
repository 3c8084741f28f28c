"""Writes rows of any known form as training lines; every row that is left out is counted with its reason and place."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import IO, Any, Final

from corpus.errors import SourceRefused, TooManyDropped
from corpus.forms.catalog import BY_NAME, fields_shown, form_of, known_forms
from corpus.forms.form import Form, RowRefused
from corpus.sources.hubs import DataSet, fetch, is_address, parse_address
from corpus.sources.tables import Numbered, read_rows
from registry.contracts.training_formats import CHATS, MARKED, PROMPTS, LineFormat, TrainingLine
from registry.contracts.training_json import parse_object
from registry.errors import TrainingFileInvalid

MOST_DROPPED: Final = 0.01
"""Share of rows that may be left out unless more is allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """A file that rows were read from."""

    name: str
    sha256: str
    revision: str | None = None
    """The revision of a hub's data set; None for a file of this machine."""


@dataclass(slots=True, kw_only=True)
class Conversion:
    """The outcome: how many rows were read, written and left out."""

    form: str
    origins: list[Origin] = field(default_factory=list)
    read: int = 0
    written: int = 0
    dropped: dict[str, list[str]] = field(default_factory=dict)
    """Reason -> places of all rows that were left out for it, such as `line 7`."""

    @property
    def left_out(self) -> int:
        """Return the number of rows that were left out."""
        return sum(map(len, self.dropped.values()))


def convert(source: str, out: Path, form: str | None = None, most_dropped: float = MOST_DROPPED) -> Conversion:
    """Write the rows of *source*, a path or a hub's address, to *out*, which appears whole or not at all.

    Raises `SourceRefused`, and `TooManyDropped` if more than the share *most_dropped* of the rows has to be left out.
    """
    files, revision = _files(source)
    done = Conversion(form=form or "")
    part = out.with_name(f".{out.name}.part")
    try:
        with part.open("w", encoding="utf-8") as lines:
            writer = _Writer(done, lines, BY_NAME[form] if form else None)
            for name, path in files:
                done.origins.append(Origin(name=name, sha256=_digest(path), revision=revision))
                writer.write(read_rows(path, name), name if len(files) > 1 else "")
        _check(done, source, most_dropped)
        part.replace(out)
    except OSError as exc:
        raise SourceRefused(f"{out}: cannot be written: {exc.strerror or exc}") from exc
    finally:
        part.unlink(missing_ok=True)
    return done


def _files(source: str) -> tuple[Sequence[tuple[str, Path]], str | None]:
    if is_address(source):
        asked: DataSet = parse_address(source)
        fetched = fetch(asked)
        return fetched.files, fetched.revision
    return [(source, Path(source))], None


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            found = sha256()
            while piece := file.read(1 << 20):
                found.update(piece)
    except OSError as exc:
        raise SourceRefused(f"{path}: {exc.strerror}") from exc
    return found.hexdigest()


class _Writer:
    """Writes rows, all of the form that the first one has."""

    def __init__(self, done: Conversion, lines: IO[str], form: Form | None) -> None:
        self._done = done
        self._lines = lines
        self._form = form
        self._format: LineFormat[TrainingLine] | None = None

    def write(self, rows: Iterator[Numbered], file: str) -> None:
        """Write the rows of a file whose name is given where there are several."""
        for number, row in rows:
            self._done.read += 1
            try:
                line = self._line(row, number)
            except RowRefused as exc:
                place = f"{file}: line {number}" if file else f"line {number}"
                self._done.dropped.setdefault(str(exc), []).append(place)
            else:
                self._lines.write(line + "\n")
                self._done.written += 1

    def _line(self, row: Mapping[str, Any] | str, number: int) -> str:
        if isinstance(row, str):
            raise RowRefused(row)
        if self._form is None:
            self._form = form_of(row)
            if self._form is None:
                raise SourceRefused(f"row {number} has the fields {fields_shown(row)}, no known form: {known_forms()}")
            self._done.form = self._form.name
        if not self._form.fits(row):
            raise RowRefused(f"has not the fields of {self._form.name}: {self._form.fields}")
        text = json.dumps(self._form.line(row), ensure_ascii=False, default=str)
        self._check(text)
        return text

    def _check(self, text: str) -> None:
        """Raise `RowRefused` unless an upload would take the line."""
        try:
            fields = parse_object(text.encode(errors="surrogatepass"), "line 0")
            found = self._format or _format_of(fields)
            found.parse(fields, 0)
        except TrainingFileInvalid as exc:
            raise RowRefused(str(exc).removeprefix("line 0: ")) from exc
        self._format = found


def _format_of(fields: Mapping[str, Any]) -> LineFormat[TrainingLine]:
    marked = next((entry for entry in MARKED if not entry.marks.isdisjoint(fields)), None)
    messages = fields.get("messages")
    is_prompt = isinstance(messages, list) and messages and messages[-1].get("role") == "user"
    return marked or (PROMPTS if is_prompt else CHATS)


def _check(done: Conversion, source: str, most_dropped: float) -> None:
    if not done.written:
        first = next(iter(done.dropped.items()), None)
        why = "" if first is None else f": {first[1][0]}: {first[0]}"
        raise SourceRefused(f"{source}: no row can be taken over{why}")
    if done.left_out > most_dropped * done.read:
        listed = "; ".join(
            f"{reason} ({len(places)}: {', '.join(places[:5])}{', …' if len(places) > 5 else ''})"
            for reason, places in sorted(done.dropped.items(), key=lambda each: -len(each[1]))[:5]
        )
        raise TooManyDropped(
            f"{source}: {done.left_out} of {done.read} rows cannot be taken over, more than the "
            f"{100 * most_dropped:g} % that --most-dropped allows: {listed}"
        )
