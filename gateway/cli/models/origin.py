"""The origin of a revision or a checkpoint as fields for people; `--json` has the record as it is stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic import JsonValue

from gateway.cli.output import moment

Field = tuple[str, str | None]
_SHOWN_ELSEWHERE: Final = ("base", "owner", "job", "created_at")
"""Facts that the page of a revision or a base model has in fields of its own."""


def origin_fields(provenance: Mapping[str, JsonValue]) -> Iterator[Field]:
    """Yield name and text of each recorded fact: files by name, times local, and nested facts in one line."""
    for name, value in provenance.items():
        if name == "times" and isinstance(value, dict):
            yield from ((f"job {_words(part)}", _text(part, at)) for part, at in value.items())
        elif name not in _SHOWN_ELSEWHERE:
            yield _words(name), _text(name, value)


def is_time(name: str) -> bool:
    """Return whether the value of such a name is a time, in unix seconds."""
    return name == "at" or name.endswith("_at")


def _words(name: str) -> str:
    return name.removesuffix("_at").replace("_", " ")


def _text(name: str, value: JsonValue) -> str | None:
    if isinstance(value, dict):
        facts = dict(value)
        first = [str(facts.pop("filename"))] if "filename" in facts else []
        return ", ".join([*first, *_leaves(facts)]) or None
    if isinstance(value, list):
        return ", ".join(str(_text("", each)) for each in value) or None
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return moment(value) if is_time(name) else f"{value:g}"
    return str(value)


def _leaves(facts: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """Yield `rank 16`, `optimizer.kind adamw` and so on of an object, without what has no value."""
    for name, value in facts.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{above}{name}.")
        elif (text := _text(name, value)) is not None:
            yield f"{above}{name} {text}"
