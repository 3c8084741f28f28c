"""Suites in files: JSONL with an optional first line for the suite, TOML, or one JSON object."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any, Final

from pydantic import ValidationError

from evaluation.errors import SuiteInvalid
from evaluation.suite import MOST_BYTES, NAME, Suite, SuiteRow
from registry.wording.field_faults import fault_in
from registry.wording.suggestions import meant_or_known

KINDS: Final = (".jsonl", ".toml", ".json")
_HEADER: Final = "suite"
_HEADER_FIELDS: Final = ("name", "description", "sampling")


def read_suite(path: Path) -> Suite:
    """Return the suite in the file at *path*. Raises `SuiteInvalid`."""
    try:
        content = path.read_bytes()
    except OSError as exc:
        raise SuiteInvalid(f"{path}: {exc.strerror}") from exc
    return parse_suite(path.name, content)


def parse_suite(filename: str, content: bytes) -> Suite:
    """Return the suite of a file's bytes; its ending is its kind. `SuiteInvalid` names line or row, and field."""
    ending = PurePath(filename).suffix.lower()
    if ending not in KINDS:
        raise SuiteInvalid(f"{filename}: is none of {', '.join(KINDS)}")
    if len(content) > 2 * MOST_BYTES:
        raise SuiteInvalid(f"{filename}: has {len(content):,} bytes; a suite has at most {MOST_BYTES:,}")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise SuiteInvalid(f"{filename}: is not text in UTF-8 (byte {exc.start + 1})") from exc
    name = _name_from(filename)
    if ending == ".jsonl":
        return _from_lines(filename, name, text)
    fields = _toml(filename, text) if ending == ".toml" else _json(filename, text)
    if isinstance(fields, list):
        fields = {"rows": fields}
    if not isinstance(fields, dict):
        raise SuiteInvalid(f"{filename}: must be an object with rows, or a list of rows")
    return suite_from({"name": name, **fields}, f"{filename}: ")


def suite_from(fields: Mapping[str, Any], where: str = "") -> Suite:
    """Return the suite of a JSON object; the message of `SuiteInvalid` begins with *where*."""
    try:
        for at, row in enumerate(rows if isinstance(rows := fields.get("rows"), list) else (), 1):
            _row(row, f"{where}row {at}: ")
        return Suite.model_validate(fields)
    except RecursionError as exc:
        raise SuiteInvalid(f"{where}is nested too deeply") from exc
    except ValidationError as exc:
        raise SuiteInvalid(f"{where}{fault_in(fields, exc).sentence}") from exc


def _from_lines(filename: str, name: str, text: str) -> Suite:
    header: Mapping[str, Any] = {}
    rows: list[SuiteRow] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{filename}: line {number}: "
        try:
            given = json.loads(line)
        except (ValueError, RecursionError) as exc:
            raise SuiteInvalid(f"{where}is not JSON: {_told(exc)}") from exc
        if not rows and not header and isinstance(given, dict) and _HEADER in given:
            header = _header(given, where)
        else:
            rows.append(_row(given, where))
    if not rows:
        raise SuiteInvalid(f"{filename}: has no rows; a row is {_EXAMPLE}")
    try:
        return Suite.model_validate({"name": name, **header, "rows": rows})
    except RecursionError as exc:
        raise SuiteInvalid(f"{filename}: is nested too deeply") from exc
    except ValidationError as exc:
        raise SuiteInvalid(f"{filename}: {fault_in(None, exc).sentence}") from exc


_EXAMPLE: Final = '{"prompt": "2 + 2 = ?", "check": {"kind": "exact", "expect": "4"}}'


def _header(given: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    header = given[_HEADER]
    if len(given) > 1 or not isinstance(header, dict):
        raise SuiteInvalid(f'{where}suite must be the only field of the line, {{"suite": {{"name": "..."}}}}')
    if unknown := sorted(set(header) - set(_HEADER_FIELDS)):
        raise SuiteInvalid(f"{where}suite: unknown field {unknown[0]!r}{meant_or_known(unknown[0], _HEADER_FIELDS)}")
    return header


def _row(given: Any, where: str) -> SuiteRow:
    if not isinstance(given, dict):
        raise SuiteInvalid(f"{where}must be an object such as {_EXAMPLE}")
    try:
        return SuiteRow.model_validate(given)
    except ValidationError as exc:
        raise SuiteInvalid(f"{where}{fault_in(given, exc).sentence}") from exc


def _toml(filename: str, text: str) -> Any:
    try:
        return tomllib.loads(text)
    except ValueError as exc:
        raise SuiteInvalid(f"{filename}: is not TOML: {exc}") from exc


def _json(filename: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise SuiteInvalid(f"{filename}: is not JSON: {_told(exc)}") from exc


def _told(exc: Exception) -> str:
    return str(exc) if isinstance(exc, ValueError) else "it is nested too deeply"


def _name_from(filename: str) -> str:
    """Return the name of a suite that names itself nowhere."""
    import re

    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", PurePath(filename).stem).strip("-._")[:64]
    return stem if re.match(NAME, stem) else "suite"
