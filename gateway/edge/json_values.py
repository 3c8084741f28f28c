"""The values in JSON that clients send: where odd text and numbers are refused. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw

from gateway.errors import InvalidRequest

_VALUE: Final = msgspec.json.Decoder()
_LARGEST: Final = 2**63 - 1
"""Largest integer of databases, and of most JSON readers behind us."""
_DEEPEST: Final = 100
TOO_DEEP: Final = "the body is not JSON that anybody reads: it is nested too deeply"
_LONGEST_PARAM: Final = 64


def values_of(members: Mapping[str, Raw]) -> dict[str, Any]:
    """Return the members decoded; `InvalidRequest` names the member with a number that is out of range."""
    values: dict[str, Any] = {}
    for name, raw in members.items():
        try:
            values[name] = _VALUE.decode(raw)
        except RecursionError as exc:
            raise InvalidRequest(TOO_DEEP, param=name[:_LONGEST_PARAM]) from exc
        except msgspec.DecodeError as exc:
            raise _out_of_range(name) from exc
    return values


def check_values(members: Mapping[str, Raw]) -> None:
    """Return if a database can store every value; else `InvalidRequest`, which names the member.

    Refused are integers beyond 64 bits, NUL characters (PostgreSQL stores none), and deep nesting.
    """
    for name, value in values_of(members).items():
        level = [name, value]
        for _ in range(_DEEPEST):
            if not level:
                break
            if any(isinstance(part, int) and abs(part) > _LARGEST for part in level):
                raise _out_of_range(name)
            if any(isinstance(part, str) and "\0" in part for part in level):
                raise InvalidRequest("a text has a NUL character, which cannot be stored", param=_shown(name))
            level = [inner for part in level for inner in _parts_of(part)]
        if level:
            raise InvalidRequest(TOO_DEEP, param=_shown(name))


def _parts_of(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    return value if isinstance(value, list) else []


def _out_of_range(name: str) -> InvalidRequest:
    shown = _shown(name)
    return InvalidRequest(f"{shown} has a number that is out of range", param=shown)


def _shown(name: str) -> str:
    return name[:_LONGEST_PARAM].replace("\0", "")
