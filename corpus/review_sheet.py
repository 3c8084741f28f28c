"""The sheet on which a person marks each drawn row as good or not: a table that spreadsheets open."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO, Any, Final

from corpus.errors import SheetRefused, SourceRefused
from corpus.examination import formats_of
from corpus.excerpts import spoken
from corpus.sampling import drawn, seed_of
from registry.contracts.training_file import filled_lines
from registry.contracts.training_formats import LineParser
from registry.errors import TrainingFileInvalid

COLUMNS: Final = ("line", "verdict", "note", "text")
WORDS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("good", "ok", "yes", "y", "g"), "good"),
    **dict.fromkeys(("bad", "no", "n", "b"), "bad"),
}
"""Spelling of a verdict -> the verdict."""
_FORMULAS: Final = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnRows:
    """The rows of a file that a person is asked to read."""

    sha256: str
    seed: int
    rows: int
    """Rows of the file."""
    texts: Mapping[int, str]
    """Line -> the row's texts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SheetVerdict:
    """The verdict on a row in the sheet."""

    line: int
    verdict: str
    note: str


def draw(path: Path, seed: int | None = None) -> DrawnRows:
    """Return the drawn rows of the file, the same ones as its report names; `SourceRefused`."""
    formats = formats_of(path)
    lines, digest = [], sha256()
    with path.open("rb") as file:
        parser = LineParser(formats)
        for number, line in filled_lines(_digested(file, digest)):
            try:
                parser.parse(line, number)
            except TrainingFileInvalid:
                continue  # the report names it
            lines.append(number)
    if not lines:
        raise SourceRefused(f"{path}: has no row without a fault; see `lorry data check`")
    found = digest.hexdigest()
    chosen = seed_of(found) if seed is None else seed
    wanted = set(drawn(lines, chosen))
    with path.open("rb") as file:
        texts = {number: spoken(line) for number, line in filled_lines(file) if number in wanted}
    return DrawnRows(sha256=found, seed=chosen, rows=len(lines), texts=texts)


def write_sheet(rows: DrawnRows, path: Path) -> None:
    """Write the sheet with an empty verdict for each row."""
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows((line, "", "", _cell(text)) for line, text in rows.texts.items())


def read_sheet(path: Path, rows: DrawnRows) -> list[SheetVerdict]:
    """Return the verdicts of a filled sheet; `SheetRefused` names what is missing or not of this file."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            head = file.readline()
            file.seek(0)
            found = list(csv.DictReader(file, delimiter=max(",;\t", key=head.count)))
    except FileNotFoundError as exc:
        why = "there is no such sheet; the same command without --sign writes it"
        raise SheetRefused(f"{path}: {why}, and a person fills it in") from exc
    except (OSError, csv.Error, UnicodeDecodeError) as exc:
        raise SheetRefused(f"{path}: cannot be read: {exc}") from exc
    if not found or not {"line", "verdict"} <= found[0].keys():
        raise SheetRefused(f"{path}: has no columns {', '.join(COLUMNS)}")
    verdicts = [_verdict(entry, path) for entry in found]
    _check_lines([each.line for each in verdicts], rows, path)
    return verdicts


def _verdict(entry: Mapping[str, str | None], path: Path) -> SheetVerdict:
    line = (entry.get("line") or "").strip()
    if not line.isdigit():
        raise SheetRefused(f"{path}: the column line has {line!r}, which is no number")
    word = (entry.get("verdict") or "").strip().lower()
    if word not in WORDS:
        said = f"has the verdict {word!r}" if word else "has no verdict"
        raise SheetRefused(f"{path}: line {line} {said}; write good or bad for every row")
    return SheetVerdict(line=int(line), verdict=WORDS[word], note=(entry.get("note") or "").strip()[:1000])


def _check_lines(lines: Sequence[int], rows: DrawnRows, path: Path) -> None:
    if missing := sorted(rows.texts.keys() - set(lines)):
        raise SheetRefused(f"{path}: lacks line {missing[0]}, which was drawn; was the file changed since?")
    if foreign := sorted(set(lines) - rows.texts.keys()) or [line for line in lines if lines.count(line) > 1]:
        raise SheetRefused(f"{path}: line {foreign[0]} was not drawn, or is there twice; was the file changed since?")


def _cell(text: str) -> str:
    """Return the text so that no spreadsheet computes it."""
    return f"'{text}" if text.startswith(_FORMULAS) else text


def _digested(file: IO[bytes], digest: Any) -> Iterator[bytes]:
    for line in file:
        digest.update(line)
        yield line
