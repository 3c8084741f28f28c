"""JSON as training files may have it: UTF-8, unique fields, finite numbers, whole text; a null field is absent."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final

from registry.errors import TrainingFileInvalid

MOST_LEVELS: Final = 64
"""Levels of objects and lists in a line; templates and encoders recurse once for each."""
MOST_DIGITS: Final = 300
UTF16_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")


def parse_object(line: bytes, where: str) -> Mapping[str, Any]:
    """Return the JSON object of *line* without its null fields; `TrainingFileInvalid` names the fault after *where*."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as exc:
        hint = "; the file looks like UTF-16, save it as UTF-8" if line.startswith(UTF16_MARKS) else ""
        raise TrainingFileInvalid(f"{where}: is not UTF-8 text (byte {exc.start + 1} of the line){hint}") from exc
    fields = _load(text, where)
    if not _is_clean(text):
        fields = _without_nulls(fields, f"{where}: ", MOST_LEVELS)
    if not isinstance(fields, dict):
        raise TrainingFileInvalid(f"{where}: must be a JSON object, " + '{"messages": [...]}')
    return fields


def parse_arguments(text: str, where: str) -> Any:
    """Return the JSON value of *text*, nulls included; `TrainingFileInvalid` names the fault after *where*."""
    value = _load(text, where)
    _without_nulls(value, where, MOST_LEVELS)  # only its checks: here a null was written by the assistant
    return value


def _load(text: str, where: str) -> Any:
    try:
        return json.loads(
            text,
            object_pairs_hook=_unique_fields,
            parse_constant=_refuse_constant,
            parse_int=_parse_integer,
            parse_float=_parse_float,
        )
    except json.JSONDecodeError as exc:
        raise TrainingFileInvalid(f"{where}: is not valid JSON: {exc.msg} at column {exc.colno}") from exc
    except RecursionError as exc:
        raise TrainingFileInvalid(f"{where}: is not valid JSON: nested too deeply") from exc
    except ValueError as exc:
        raise TrainingFileInvalid(f"{where}: {exc}") from exc


def _is_clean(text: str) -> bool:
    """Return whether JSON surely has no null, no half of a surrogate pair and no more levels than may be."""
    return "null" not in text and "\\u" not in text and text.count("{") + text.count("[") <= MOST_LEVELS


def check_text(value: object, where: str) -> str:
    """Return *value* if it is a string, else raise `TrainingFileInvalid`."""
    if not isinstance(value, str):
        raise TrainingFileInvalid(f"{where} must be a string, not {json_kind(value)}")
    return value


def json_kind(value: object) -> str:
    """Return the kind of a JSON value with its article."""
    names = {dict: "an object", list: "a list", bool: "a boolean", int: "a number", float: "a number", str: "a string"}
    return "null" if value is None else names[type(value)]


def shown(value: object) -> str:
    """Return *value* as JSON, cut to a length that fits an error message."""
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _without_nulls(value: Any, where: str, levels: int) -> Any:
    """Return *value* without fields that are null, as exports of tables write every field that a row lacks."""
    if isinstance(value, str):
        return _whole_text(value, where)
    if not isinstance(value, dict | list):
        return value
    if not levels:
        raise TrainingFileInvalid(f"{where[:40]}... is nested more than {MOST_LEVELS} levels deep")
    if isinstance(value, list):
        return [_without_nulls(entry, f"{where}[{at}]", levels - 1) for at, entry in enumerate(value)]
    dot = "" if where.endswith(" ") else "."
    return {
        # Nearly all names are ASCII, and need no place for an error.
        key if key.isascii() else _whole_text(key, f"{where}{dot}{shown(key)}"): _without_nulls(
            entry, f"{where}{dot}{key[:40]}", levels - 1
        )
        for key, entry in value.items()
        if entry is not None
    }


def _whole_text(text: str, where: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as exc:
        raise TrainingFileInvalid(f"{where} holds half of a surrogate pair, which is not text") from exc
    return text


def _unique_fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"field {shown(twice)} appears twice in one object")
    return fields


def _refuse_constant(name: str) -> None:
    raise ValueError(f"is not valid JSON: {name} is not a JSON number")


def _parse_integer(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"holds a number of {len(digits)} digits; the most are {MOST_DIGITS}")
    return int(digits)


def _parse_float(digits: str) -> float:
    if math.isinf(number := float(digits)):
        raise ValueError(f"holds a number that is too large: {digits[:40]}")
    return number
