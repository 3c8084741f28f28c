"""A form of rows, and what the forms share."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

Row = Mapping[str, Any]
SYSTEM_FIELDS: Final = ("system", "system_prompt")


class RowRefused(Exception):
    """A row cannot become a training line; the message is the reason, without the place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """A form of rows."""

    name: str
    fields: str
    """Fields of the form, for people."""
    fits: Callable[[Row], bool]
    """Whether a row has the fields of this form."""
    line: Callable[[Row], dict[str, Any]]
    """Returns the row as a training line; `RowRefused`."""


def text_of(row: Row, *names: str) -> str:
    """Return the first of these fields that has a text; empty without one. `RowRefused` for what is no text."""
    for name in names:
        value = row.get(name)
        if value is None or value == "":
            continue
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise RowRefused(f"{name} must be a text")
        return str(value)
    return ""


def needed_text(row: Row, *names: str) -> str:
    """Return the first of these fields that has a text; `RowRefused` without one."""
    text = text_of(row, *names)
    if not text.strip():
        raise RowRefused(f"{' or '.join(names)} is empty")
    return text


def chat(system: str, turns: Sequence[dict[str, Any]], tools: object = None) -> dict[str, Any]:
    """Return a chat's line."""
    messages = [*([{"role": "system", "content": system}] if system.strip() else []), *turns]
    return {"messages": messages, **({"tools": tools} if tools else {})}


def as_json(value: object, name: str) -> Any:
    """Return a field that is JSON, or JSON in a text as tables have it; `RowRefused`."""
    if not isinstance(value, str):
        return value
    if not value.strip():
        return None
    try:
        return json.loads(value)
    except ValueError as exc:
        raise RowRefused(f"{name} is not JSON") from exc
