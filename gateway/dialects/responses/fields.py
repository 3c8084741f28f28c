"""Members of a request in Responses' form, read with the faults named. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

from gateway.errors import InvalidRequest

T = TypeVar("T")

_KINDS: Final[Mapping[type, str]] = {
    str: "a text",
    bool: "true or false",
    int: "a whole number",
    list: "a list",
    dict: "an object",
}
_SHOWN: Final = 64


def member(of: Mapping[str, Any], name: str, kind: type[T], where: str = "") -> T | None:
    """Return the member *name*, None where it is absent or null; `InvalidRequest` where it is of another kind.

    *where* is the path of *of* within the request.
    """
    value = of.get(name)
    if value is None:
        return None
    # Python takes a bool for an int, JSON does not.
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise wrong(f"{where}.{name}" if where else name, _KINDS[kind], value)
    return value


def needed(of: Mapping[str, Any], name: str, kind: type[T], where: str) -> T:
    """Return the member *name*; `InvalidRequest` where it is absent or of another kind."""
    value = member(of, name, kind, where)
    if value is None:
        path = f"{where}.{name}"
        raise InvalidRequest(f"{path} is missing: {_KINDS[kind]} is needed", param=path)
    return value


def one_of(value: str, known: Sequence[str], where: str) -> str:
    """Return *value* if it is one of the *known* ones; else `InvalidRequest`, which lists them."""
    if value not in known:
        raise InvalidRequest(f"{where} must be one of {', '.join(known)}; got {shown(value)}", param=where)
    return value


def as_object(value: Any, where: str) -> Mapping[str, Any]:
    """Return *value* if it is an object; else `InvalidRequest`."""
    if not isinstance(value, dict):
        raise wrong(where, _KINDS[dict], value)
    return value


def wrong(where: str, wanted: str, value: Any) -> InvalidRequest:
    """Return the error for a member that is not what is *wanted*."""
    return InvalidRequest(f"{where} must be {wanted}; got {shown(value)}", param=where)


def unsupported(where: str, instead: str, value: str | None = None) -> InvalidRequest:
    """Return the refusal of a field, or of this *value* of it, that OpenAI has and Lorry does not."""
    what = where if value is None else f"{where} {shown(value)}"
    return InvalidRequest(f"{what} is not supported here: {instead}", param=where)


def shown(value: Any) -> str:
    """Return *value* as a message may quote it."""
    match value:
        case bool():
            return "true" if value else "false"
        case str() | int() | float():
            text = repr(value)
            return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
        case list():
            return "a list"
        case _:
            return "an object"
