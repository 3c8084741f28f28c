"""Reading JSON that clients send: where bytes become values, and where odd text and numbers are refused. Pure."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw

from gateway.errors import InvalidRequest

_MEMBERS: Final = msgspec.json.Decoder(dict[str, Raw])
_VALUE: Final = msgspec.json.Decoder()
_LARGEST: Final = 2**63 - 1
"""Largest integer of databases, and of most JSON readers behind us."""
_DEEPEST: Final = 100
_TOO_DEEP: Final = "the body is not JSON that anybody reads: it is nested too deeply"
_LONGEST_PARAM: Final = 64


def members_of(raw: bytes) -> dict[str, Raw]:
    """Return the members of a JSON object, their values as they came; `InvalidRequest` if *raw* is not one."""
    if raw.startswith(BOM_UTF8):  # RFC 8259, 8.1: a parser may ignore it
        raw = raw[len(BOM_UTF8) :]
    try:
        if not raw.isascii():
            raw.decode()  # the decoder leaves text alone that it does not look at
        return _MEMBERS.decode(raw)
    except msgspec.ValidationError as exc:
        raise InvalidRequest("the body must be a JSON object") from exc
    except UnicodeDecodeError as exc:
        raise InvalidRequest(f"the body is not JSON in UTF-8: byte {exc.start} cannot be decoded") from exc
    except RecursionError as exc:
        raise InvalidRequest(_TOO_DEEP) from exc
    except ValueError as exc:
        raise InvalidRequest(f"the body is not JSON: {exc}") from exc


def values_of(members: Mapping[str, Raw]) -> dict[str, Any]:
    """Return the members decoded; `InvalidRequest` names the member with a number that is out of range."""
    values: dict[str, Any] = {}
    for name, raw in members.items():
        try:
            values[name] = _VALUE.decode(raw)
        except RecursionError as exc:
            raise InvalidRequest(_TOO_DEEP, param=name[:_LONGEST_PARAM]) from exc
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
            raise InvalidRequest(_TOO_DEEP, param=_shown(name))


def _parts_of(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    return value if isinstance(value, list) else []


def _out_of_range(name: str) -> InvalidRequest:
    shown = _shown(name)
    return InvalidRequest(f"{shown} has a number that is out of range", param=shown)


def _shown(name: str) -> str:
    return name[:_LONGEST_PARAM].replace("\0", "")
