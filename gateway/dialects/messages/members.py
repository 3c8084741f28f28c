"""Reads the members of a JSON object; each fault is an `InvalidRequest` that names the member and what is right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

import orjson

from gateway.errors import InvalidRequest

T = TypeVar("T")

_LONGEST_SHOWN: Final = 64
_EXACT_FLOATS: Final = 2**53
"""Below this every whole number has a float of its own (IEEE 754)."""
_KINDS: Final = {str: "a string", list: "an array", dict: "an object", bool: "a boolean"}
NOTHING: Final[tuple[Any, ...]] = (None, "", [], {}, False)
"""Values with which a member asks for nothing."""


def shown(value: Any) -> str:
    """Return *value* as a message may show it: what it is in JSON, cut where it is long."""
    if isinstance(value, str | int | float):
        text = orjson.dumps(value).decode() if not isinstance(value, int) or abs(value) < 2**63 else "a large number"
        return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."
    return _KINDS.get(type(value), "null" if value is None else "a number")


def fault(path: str, text: str) -> InvalidRequest:
    """Return the error of the member at *path*, whose name *text* follows."""
    return InvalidRequest(f"{path} {text}", param=path)


class Members:
    """The members of one object; a member that is null is absent."""

    def __init__(self, value: Any, path: str) -> None:
        """*path* names the object in messages of errors, and is empty for the body."""
        if not isinstance(value, dict):
            raise fault(path or "the body", f"must be an object, not {shown(value)}")
        self._values: Mapping[str, Any] = {name: each for name, each in value.items() if each is not None}
        self.name = path

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def path(self, name: str) -> str:
        """Return the name of a member as messages show it."""
        shortened = name if len(name) <= _LONGEST_SHOWN else f"{name[:_LONGEST_SHOWN]}..."
        return f"{self.name}.{shortened}" if self.name else shortened

    def value(self, name: str) -> Any:
        """Return a member as it came; None where it is absent."""
        return self._values.get(name)

    def text(self, name: str) -> str | None:
        """Return a string."""
        value = self._values.get(name)
        if value is None or isinstance(value, str):
            return value
        raise fault(self.path(name), f"must be a string, not {shown(value)}")

    def required_text(self, name: str) -> str:
        """Return a string that must be there."""
        return self._required(name, self.text(name))

    def word(self, name: str, words: Sequence[str]) -> str | None:
        """Return one of *words*."""
        value = self._values.get(name)
        if value is None or (isinstance(value, str) and value in words):
            return value
        known = " or ".join(f'"{word}"' for word in words)
        raise fault(self.path(name), f"must be {known}, not {shown(value)}")

    def whole_number(self, name: str, least: int) -> int | None:
        """Return a whole number, however it is written."""
        value = self._values.get(name)
        if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT_FLOATS:
            value = int(value)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 2**63:
            raise fault(self.path(name), f"must be a whole number from {least} on, not {shown(value)}")
        return value

    def number(self, name: str, least: float, most: float) -> float | None:
        """Return a number from *least* to *most*."""
        value = self._values.get(name)
        if value is None:
            return None
        if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value <= most:
            raise fault(self.path(name), f"must be a number from {least:g} to {most:g}, not {shown(value)}")
        return value

    def flag(self, name: str) -> bool | None:
        """Return true or false."""
        value = self._values.get(name)
        if value is None or isinstance(value, bool):
            return value
        raise fault(self.path(name), f"must be true or false, not {shown(value)}")

    def entries(self, name: str) -> list[Any] | None:
        """Return an array."""
        value = self._values.get(name)
        if value is None or isinstance(value, list):
            return value
        raise fault(self.path(name), f"must be an array, not {shown(value)}")

    def mapping(self, name: str) -> dict[str, Any] | None:
        """Return an object as it came."""
        value = self._values.get(name)
        if value is None or isinstance(value, dict):
            return value
        raise fault(self.path(name), f"must be an object, not {shown(value)}")

    def required_mapping(self, name: str) -> dict[str, Any]:
        """Return an object that must be there, as it came."""
        return self._required(name, self.mapping(name))

    def members(self, name: str) -> Members | None:
        """Return an object, to be read."""
        value = self._values.get(name)
        return None if value is None else Members(value, self.path(name))

    def each(self, name: str) -> list[Members]:
        """Return the objects of an array, to be read."""
        entries = self.entries(name) or []
        return [Members(entry, f"{self.path(name)}[{place}]") for place, entry in enumerate(entries)]

    def refuse(self, name: str, why: str, *, unless: Sequence[Any] = NOTHING) -> None:
        """Refuse a member, unless its value asks for nothing."""
        value = self._values.get(name)
        if not any(value == each and type(value) is type(each) for each in (None, *unless)):
            raise fault(self.path(name), why)

    def only(self, *names: str) -> None:
        """Refuse a member that has none of these *names*."""
        for name in self._values.keys() - set(names):
            of = "POST /v1/messages" if not self.name else self.name
            raise fault(self.path(name), f"is not supported; {of} takes {', '.join(sorted(names))}")

    def _required(self, name: str, value: T | None) -> T:
        if value is None:
            raise fault(self.path(name), "is required")
        return value
