"""Rows of files: JSON lines, one JSON list, CSV or TSV, and Parquet."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from corpus.errors import SourceRefused
from registry.contracts.training_file import filled_lines
from registry.contracts.training_json import parse_object
from registry.errors import TrainingFileInvalid

Numbered = tuple[int, Mapping[str, Any] | str]
"""A row with its number in the file, from 1: of JSON and CSV its line; a text instead of a row is why it has none."""
LIST_FIELDS: Final = ("data", "rows", "examples", "train")
"""Fields of a JSON object that have the list of rows."""


def read_rows(path: Path, name: str | None = None) -> Iterator[Numbered]:
    """Yield the rows of the file in their order; `SourceRefused` for a file that is none of the kinds.

    *name* decides the kind where the file's own does not, as in a hub's cache.
    """
    suffix = Path(name or path.name).suffix.lower()
    if suffix not in READERS:
        raise SourceRefused(f"{name or path}: is none of {', '.join(READERS)}")
    try:
        yield from READERS[suffix](path)
    except OSError as exc:
        raise SourceRefused(f"{path}: {exc.strerror or exc}") from exc
    except UnicodeDecodeError as exc:
        raise SourceRefused(
            f"{path}: is not UTF-8 text (byte {exc.start + 1} of what was read); save it as UTF-8"
        ) from exc


def _json_lines(path: Path) -> Iterator[Numbered]:
    with path.open("rb") as file:
        for number, line in filled_lines(file):
            try:
                yield number, parse_object(line, "the line")
            except TrainingFileInvalid as exc:
                yield number, str(exc)


def _json_list(path: Path) -> Iterator[Numbered]:
    with path.open("rb") as file:
        begins = file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if begins == b"{" and _is_lines(path):
        yield from _json_lines(path)
        return
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except RecursionError as exc:
        raise SourceRefused(f"{path}: is nested too deeply") from exc
    except json.JSONDecodeError as exc:
        raise SourceRefused(f"{path}: is not valid JSON: {exc.msg} at line {exc.lineno}, column {exc.colno}") from exc
    if isinstance(found, dict):
        name = next((name for name in LIST_FIELDS if isinstance(found.get(name), list)), None)
        if name is None:
            raise SourceRefused(f"{path}: must be a list of rows, or an object with one in {' or '.join(LIST_FIELDS)}")
        found = found[name]
    if not isinstance(found, list):
        raise SourceRefused(f"{path}: must be a list of rows")
    for number, row in enumerate(found, start=1):
        yield number, row if isinstance(row, dict) else "the row is not an object"


def _is_lines(path: Path) -> bool:
    """Return whether the first line is a whole object: JSON lines with the name of a JSON file."""
    with path.open("rb") as file:
        first = next((line for _, line in filled_lines(file)), b"")
        more = next((line for _, line in filled_lines(file)), b"")
    try:
        return isinstance(json.loads(first.decode("utf-8-sig")), dict) and bool(more)
    except (ValueError, RecursionError):
        return False


def _cells(path: Path) -> Iterator[Numbered]:
    csv.field_size_limit(sys.maxsize)
    with path.open(encoding="utf-8-sig", newline="") as file:
        head = file.readline()
        file.seek(0)
        delimiter = "\t" if path.suffix.lower() == ".tsv" else max(",;\t", key=head.count)
        reader = csv.DictReader(file, delimiter=delimiter, restkey="", strict=True)
        try:
            for row in reader:
                if None in row.values():
                    yield reader.line_num, "the row has fewer cells than the head"
                elif "" in row:
                    yield reader.line_num, "the row has more cells than the head"
                else:
                    yield reader.line_num, {str(name).strip(): value for name, value in row.items()}
        except csv.Error as exc:
            raise SourceRefused(f"{path}: line {reader.line_num}: is not valid CSV: {exc}") from exc


def _parquet(path: Path) -> Iterator[Numbered]:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as exc:
        raise SourceRefused(f"{path}: Parquet needs the extra `data`: pip install 'lorry[data]'") from exc
    number = 0
    try:
        with ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    number += 1
                    yield number, _plain(row)
    except ArrowException as exc:
        raise SourceRefused(f"{path}: is not a readable Parquet file: {exc}") from exc


def _plain(value: Any) -> Any:
    """Return a cell without the nulls that a column of structs has for every absent field."""
    if isinstance(value, dict):
        return {name: _plain(entry) for name, entry in value.items() if entry is not None}
    return [_plain(entry) for entry in value] if isinstance(value, list) else value


READERS: Final[Mapping[str, Callable[[Path], Iterator[Numbered]]]] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json_list,
    ".csv": _cells,
    ".tsv": _cells,
    ".parquet": _parquet,
}
"""Ending of a file's name -> its reader."""
