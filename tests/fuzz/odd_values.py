"""Odd JSON: values near what a schema describes, broken in the ways in which clients and attackers break them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final

NUMBERS: Final = (
    *("0", "-0", "1", "-1", "2", "100", "101", "1.0", "0.5", "1e5", "1E+2", "1e999", "-1e999", "1e-999", "1e400"),
    *("2147483647", "2147483648", "4294967296", "9007199254740993", "9223372036854775807", "9223372036854775808"),
    *("-9223372036854775809", "18446744073709551616", "1" + "0" * 400, "1" + "0" * 5000, "-" + "9" * 5000),
    *("0." + "3" * 3000, "NaN", "Infinity", "-Infinity", "01", "1.", ".5", "0x10"),
)
"""Numbers as they are written; the last ones are not JSON."""
STRINGS: Final = (
    *("", " ", "a", "true", "null", "nan", "1e999", "-1", "0", "9" * 30, "1" + "0" * 5000),
    *(
        "\ud800",
        "\udfff\ud800",
        "a\udc80b",
        "\0",
        "a\0b",
        "\r\nx-evil: 1",
        "\u2028",
        "\ufeffa",
        "\u202e",
        "é",
        "\U0001f600",
    ),
    *("../../etc/hosts", "..", ".", "/", "%00", "%ff", "'; DROP TABLE keys; --", "${jndi:ldap://x}", "{0}", "%s%n"),
    *("support", "support@1", "support@2", "support@0", "support@-1", "support@999", "support@" + "9" * 40, "support@"),
    *(
        "support@1e3",
        "support@\u00b2",
        "support@\u0661",
        "@1",
        "@",
        "support@1@1",
        "tiny",
        "Tiny",
        "ft:tiny:x:support:y",
    ),
    *(
        "canary",
        "stable",
        "auto",
        "shadow:5",
        "shadow:1e9",
        "shadow:\u00b2",
        "5%",
        "fine-tune",
        "x" * 64,
        "x" * 300,
        "x" * 70_000,
    ),
)
PLACEHOLDERS: Final = ("{file}", "{job}", "{publication}", "{rollout}", "{replica}", "{key}", "{completion}")
"""Ids that exist: replaced by one when the request is sent."""
DEPTHS: Final = (2, 20, 130, 300, 1100, 100_000)


@dataclass(frozen=True, slots=True)
class Written:
    """A value as its JSON text, whether that is JSON or not."""

    text: str


@dataclass(frozen=True, slots=True)
class Members:
    """An object whose names may repeat."""

    pairs: Sequence[tuple[str, Any]]


def written(value: Any) -> str:
    """Return the text of a value; lone surrogates are written as escapes."""
    if isinstance(value, Written):
        return value.text
    if isinstance(value, Members):
        return "{" + ",".join(f"{json.dumps(name)}:{written(item)}" for name, item in value.pairs) + "}"
    if isinstance(value, dict):
        return written(Members(tuple(value.items())))
    if isinstance(value, list):
        return "[" + ",".join(map(written, value)) + "]"
    return json.dumps(value)


def odd_value(rng: Random) -> Any:
    """Return a value that is probably not what is wanted."""
    kind = rng.random()
    if kind < 0.35:
        return Written(rng.choice(NUMBERS))
    if kind < 0.6:
        return rng.choice(STRINGS + PLACEHOLDERS)
    if kind < 0.8:
        return rng.choice((None, True, False, [], {}, [None], {"": None}, [[]], [{}], {"type": None}))
    if kind < 0.9:
        return nested(rng)
    return rng.choice(([1] * 3000, {str(n): n for n in range(500)}, ["\ud800"], {"\ud800": 1}, {"\0": "\0"}))


def nested(rng: Random) -> Written:
    """Return lists or objects, deep in each other."""
    depth = rng.choice(DEPTHS)
    begin, end = rng.choice((("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")))
    return Written(begin * depth + "1" + end * (depth if rng.random() < 0.8 else 0))


class Shapes:
    """Makes values near the schemas of an OpenAPI description."""

    def __init__(self, described: Mapping[str, Any]) -> None:
        self._schemas: Mapping[str, Any] = described["components"]["schemas"]

    def near(self, schema: Mapping[str, Any], rng: Random, depth: int = 0) -> Any:
        """Return a value that *schema* describes, nearly."""
        if "$ref" in schema:
            return self.near(self._schemas[schema["$ref"].rpartition("/")[2]], rng, depth + 1)
        if depth > 12 or rng.random() < 0.02:
            return odd_value(rng)
        for many in ("anyOf", "oneOf", "allOf"):
            if many in schema:
                return self.near(rng.choice(schema[many]), rng, depth + 1)
        if "enum" in schema or "const" in schema:
            return rng.choice(schema.get("enum") or [schema["const"]])
        return self._of_type(schema, rng, depth)

    def _of_type(self, schema: Mapping[str, Any], rng: Random, depth: int) -> Any:
        least, most = schema.get("minimum", 0), schema.get("maximum", 100)
        simple: Mapping[str, tuple[Any, ...]] = {
            "string": STRINGS + PLACEHOLDERS,
            "integer": (1, 1, 2, least, most, 2**31, 2**63, -(2**63) - 1),
            "number": (0, 0.5, 1, 1e-300, 1e300, least, most),
            "boolean": (True, False),
            "null": (None,),
        }
        kind = schema.get("type", "")
        if kind == "object":
            return self._object(schema, rng, depth)
        if kind == "array":
            items = schema.get("items", {})
            return [self.near(items, rng, depth + 1) for _ in range(rng.choice((0, 1, 1, 2, 3)))]
        return rng.choice(simple[kind]) if kind in simple else odd_value(rng)

    def _object(self, schema: Mapping[str, Any], rng: Random, depth: int) -> dict[str, Any]:
        required = schema.get("required", ())
        parts = schema.get("properties", {})
        made = {
            name: self.near(part, rng, depth + 1)
            for name, part in parts.items()
            if name in required or rng.random() < 0.35
        }
        more = schema.get("additionalProperties")
        if isinstance(more, dict):
            made |= {rng.choice(STRINGS): self.near(more, rng, depth + 1) for _ in range(rng.choice((0, 1, 20)))}
        return made


def broken(value: Any, rng: Random) -> Any:
    """Return *value* with some part of it replaced, at any depth."""
    if rng.random() < 0.15 or not isinstance(value, dict | list) or not value:
        return odd_value(rng)
    if isinstance(value, list):
        at = rng.randrange(len(value))
        return [broken(item, rng) if number == at else item for number, item in enumerate(value)]
    name = rng.choice(list(value))
    how = rng.random()
    if how < 0.7:
        return {**value, name: broken(value[name], rng)}
    if how < 0.8:
        return {key: item for key, item in value.items() if key != name}
    if how < 0.9:
        return {**value, rng.choice(STRINGS): odd_value(rng)}
    return Members((*value.items(), (name, odd_value(rng))))


def odd_text(text: bytes, rng: Random) -> bytes:
    """Return a body that is *text* with its bytes broken."""
    at = rng.randrange(len(text) + 1)
    changes = (
        text[:at],
        b"\xef\xbb\xbf" + text,
        text[:at] + rng.randbytes(3) + text[at:],
        text[:at] + b"\xed\xa0\x80" + text[at:],
        text[:at] + b"\0" + text[at:],
        text + text,
        text + b",",
        b"[" + text + b"]",
        b" " * 5000 + text,
        text.decode("latin-1").encode("utf-16"),
        rng.randbytes(rng.choice((0, 1, 30, 3000))),
        b"",
        b"null",
        b'"a"',
        b"1" + b"0" * 5000,
        b"[" * 100_000,
    )
    return rng.choice(changes)
