"""The parts of a JSON Schema that XGrammar leaves unenforced, by which vLLM, SGLang and LMDeploy hold answers. Pure.

XGrammar 0.2.7 and 0.2.8 ignore much of what they do not support, and the answer breaks the schema without an error. The
rules here come from probes of single keywords; `bench/engine/xgrammar_schemas.py` holds them against the JSON Schema
test suite. Schemas that XGrammar refuses by itself (a broken pattern, an empty range) are not among them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

_NEVER: Final[Mapping[str, tuple[Any, ...]]] = {
    "not": (),
    "if": (),
    "dependentRequired": ({},),
    "dependentSchemas": ({},),
    "dependencies": ({},),
    "contains": (),
    "uniqueItems": (False,),
    "multipleOf": (),
    "unevaluatedItems": (True, {}),
    "unevaluatedProperties": (True, {}),
    "additionalItems": (True, {}),
    "$dynamicRef": (),
    "$recursiveRef": (),
}
"""Keywords that are passed over, or taken for others -> values with which they ask for nothing."""
_OF_TYPE: Final[Mapping[str, tuple[str, ...]]] = {
    "string": ("minLength", "maxLength", "pattern", "format"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    "array": ("minItems", "maxItems", "items", "prefixItems", "uniqueItems", "contains"),
    "object": (
        *("properties", "required", "additionalProperties", "minProperties", "maxProperties"),
        *("patternProperties", "propertyNames"),
    ),
}
TYPE_OF: Final = {keyword: kind for kind, keywords in _OF_TYPE.items() for keyword in keywords}
"""Keyword -> the type of the values that it is about."""
_TELL_TYPE: Final = {"array": ("items", "prefixItems"), "object": ("properties", "additionalProperties")}
"""Keywords from which the type is inferred where `type` is absent; others count only beside them then."""
_ALONE: Final = ("$ref", "anyOf", "oneOf", "allOf", "const", "enum")
"""Keywords that decide alone: what stands beside one of them is passed over."""
_FORMATS: Final = frozenset(
    {
        *("date", "date-time", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"),
        *("uri", "uri-reference", "uri-template", "json-pointer", "relative-json-pointer"),
    }
)
_NAMES_OF_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
    "array": (list,),
    "object": (dict,),
}
_ATOMS: Final = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
_MISPLACED: Final = re.compile(r"[^|(:]\^|\$[^|)]", re.DOTALL)
_MISREAD: Final = re.compile(r"\\[AZzG]|\[\[[:.=]|&&|~~|--\[")


class Unenforced(NamedTuple):
    """A part of a schema that answers would not keep to."""

    at: str
    """JSON pointer of the schema that has it."""
    keyword: str
    """`type` where a keyword is enforced only beside a type."""
    why: str
    is_typed: bool = False
    """The schema names the type that the keyword is about, by which vLLM recognises what XGrammar leaves out."""


def unenforced(schema: Mapping[str, Any]) -> Iterator[Unenforced]:
    """Yield what answers would not keep to, in the schemas that can be reached from the root."""
    seen, left = set[str](), [("#", schema)]
    while left:
        at, each = left.pop()
        if at in seen or not isinstance(each, dict):
            continue
        seen.add(at)
        yield from _found_in(at, each, schema)
        left += reversed(_inner(at, each, schema))


def misread_pattern(pattern: str) -> str:
    """Return what XGrammar takes for something else in a regular expression, in words; empty where there is nothing."""
    if found := _MISREAD.search(pattern):
        return f"has {found[0]!r}, which is read as characters"
    if _MISPLACED.search(_ATOMS.sub("x", pattern)):
        return "has ^ or $ within, where it is passed over"
    return ""


def _found_in(at: str, schema: Mapping[str, Any], root: Mapping[str, Any]) -> Iterator[Unenforced]:
    types = _types(schema)
    for keyword, neutral in _NEVER.items():
        if keyword in schema and schema[keyword] not in neutral and _concerns(keyword, types):
            yield Unenforced(at, keyword, "", types is not None)
    for keyword in _untyped(schema, types):
        yield Unenforced(at, "type", f"without it {keyword!r} is passed over")
    if "oneOf" in schema and not are_disjoint([_followed(each, root) for each in _listed(schema["oneOf"])]):
        yield Unenforced(
            at, "oneOf", "its schemas must differ in `type`, or in a required property's `const` or `enum`"
        )
    yield from _beside_alone(at, schema)
    if "$id" in schema and at != "#":
        yield Unenforced(at, "$id", "references are resolved as if it were not there")
    if types is None or "string" in types:
        yield from _found_in_string(at, schema)
    if types is None or "object" in types:
        yield from _found_in_object(at, schema)


def _concerns(keyword: str, types: frozenset[str] | None) -> bool:
    """Whether a keyword restricts values of these types."""
    return types is None or keyword not in TYPE_OF or TYPE_OF[keyword] in _as_numbers(types)


def _as_numbers(types: frozenset[str]) -> frozenset[str]:
    return types | {"number"} if "integer" in types else types


def are_disjoint(schemas: list[Mapping[str, Any]]) -> bool:
    """Whether no value can satisfy two of these schemas, by their types or by a property that tells them apart."""
    types = [_as_numbers(_types(each) or frozenset()) for each in schemas]
    if all(types) and len(frozenset().union(*types)) == sum(map(len, types)):
        return True
    if not all(_types(each) == frozenset({"object"}) for each in schemas):
        return False
    return any(_tells_apart(name, schemas) for name in (schemas[0].get("properties") or {} if schemas else ()))


def _tells_apart(name: str, schemas: list[Mapping[str, Any]]) -> bool:
    seen: list[Any] = []
    for schema in schemas:
        properties, required = schema.get("properties"), schema.get("required")
        told = properties.get(name) if isinstance(properties, dict) else None
        if not isinstance(told, dict) or not isinstance(required, list) or name not in required:
            return False
        values = [told["const"]] if "const" in told else _listed(told.get("enum"))
        # Texts alone, as 1, 1.0 and true are equal to Python and not to JSON.
        if not values or not all(isinstance(value, str) and value not in seen for value in values):
            return False
        seen += values
    return True


def _followed(schema: Any, root: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the schema that is meant, which a reference may name."""
    target = schema.get("$ref") if isinstance(schema, dict) else None
    found = _at(root, target) if isinstance(target, str) and target.startswith("#/") else schema
    return found if isinstance(found, dict) else {}


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _types(schema: Mapping[str, Any]) -> frozenset[str] | None:
    """Return the types that the schema names, None where it names none."""
    named = schema.get("type")
    if isinstance(named, str):
        return frozenset({named})
    return frozenset(str(each) for each in named) if isinstance(named, list) and named else None


def _untyped(schema: Mapping[str, Any], types: frozenset[str] | None) -> list[str]:
    """Return keywords that need a type which is not named; the first one tells enough."""
    if types is not None or any(keyword in schema for keyword in _ALONE):
        return []
    if "type" in schema:
        return ["type"]
    told = [kind for kind, keywords in _TELL_TYPE.items() if any(keyword in schema for keyword in keywords)]
    return [keyword for keyword in schema if keyword in TYPE_OF and TYPE_OF[keyword] not in told[:1]][:1]


def _beside_alone(at: str, schema: Mapping[str, Any]) -> Iterator[Unenforced]:
    alone = next((keyword for keyword in _ALONE if keyword in schema), None)
    if alone is None:
        return
    if alone == "$ref" and not (schema["$ref"] == "#" or str(schema["$ref"]).startswith("#/")):
        yield Unenforced(at, "$ref", "only references within the schema, as #/$defs/NAME, are followed")
    if alone == "allOf" and isinstance(schema["allOf"], list) and len(schema["allOf"]) > 1:
        yield Unenforced(at, "allOf", "only one schema in it is followed")
    values = [schema["const"]] if alone == "const" else schema["enum"] if alone == "enum" else None
    for keyword in schema:
        if keyword == alone or keyword not in TYPE_OF.keys() | {*_ALONE, "type"}:
            continue
        if isinstance(values, list) and _agrees(keyword, schema[keyword], values):
            continue
        yield Unenforced(at, keyword, f"it is passed over beside {alone!r}")


def _agrees(keyword: str, wanted: Any, values: list[Any]) -> bool:
    """Whether each of the values that a schema enumerates satisfies `type` or the `enum` beside a `const`."""
    if keyword == "enum":
        return isinstance(wanted, list) and all(value in wanted for value in values)
    if keyword != "type":
        return False
    names = [wanted] if isinstance(wanted, str) else wanted if isinstance(wanted, list) else []
    return all(any(_is_of(value, str(name)) for name in names) for value in values)


def _is_of(value: Any, name: str) -> bool:
    kinds = _NAMES_OF_TYPES.get(name, ())
    return isinstance(value, kinds) and (not isinstance(value, bool) or name == "boolean")


def _found_in_string(at: str, schema: Mapping[str, Any]) -> Iterator[Unenforced]:
    groups = [group for group in (("pattern",), ("format",), ("minLength", "maxLength")) if schema.keys() & {*group}]
    if len(groups) > 1:
        first, second = (min(schema.keys() & {*group}) for group in groups[:2])
        yield Unenforced(at, first, f"it cannot be combined with {second!r}", "type" in schema)
    if "format" in schema and schema["format"] not in _FORMATS:
        yield Unenforced(at, "format", f"{schema['format']!r} is unknown", "type" in schema)
    if isinstance(schema.get("pattern"), str) and (why := misread_pattern(schema["pattern"])):
        yield Unenforced(at, "pattern", f"it {why}")


def _found_in_object(at: str, schema: Mapping[str, Any]) -> Iterator[Unenforced]:
    properties, required, patterns = (schema.get(name) for name in ("properties", "required", "patternProperties"))
    known = properties if isinstance(properties, dict) else {}
    if isinstance(required, list) and (missing := [name for name in required if name not in known]):
        yield Unenforced(at, "required", f"{missing[0]!r} is not among properties")
    if isinstance(patterns, dict) and (len(patterns) > 1 or known or "propertyNames" in schema):
        yield Unenforced(at, "patternProperties", "only one pattern alone is followed")
    elif isinstance(patterns, dict) and (why := next(filter(None, map(misread_pattern, patterns)), "")):
        yield Unenforced(at, "patternProperties", f"the pattern {why}")
    names = schema.get("propertyNames")
    rules = names.keys() - {"type"} if isinstance(names, dict) else set()
    if names is not None and (known or len(rules) != 1 or not rules <= {"pattern", "enum"}):
        yield Unenforced(at, "propertyNames", "only one pattern or enum, without properties, is followed")


def _inner(at: str, schema: Mapping[str, Any], root: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the schemas within a schema and the one that it refers to, with their pointers."""
    found = [(f"{at}/{name}", schema[name]) for name in ("items", "additionalProperties") if name in schema]
    for name in ("anyOf", "oneOf", "allOf", "prefixItems"):
        found += [(f"{at}/{name}/{i}", each) for i, each in enumerate(_listed(schema.get(name)))]
    for name in ("properties", "patternProperties"):
        named = schema.get(name)
        found += [(f"{at}/{name}/{key}", each) for key, each in (named if isinstance(named, dict) else {}).items()]
    target = schema.get("$ref")
    if isinstance(target, str) and (target == "#" or target.startswith("#/")):
        found.append((target, _at(root, target)))
    return found


def _at(root: Mapping[str, Any], pointer: str) -> Any:
    """Return the value at *pointer*, None where there is none, which XGrammar refuses."""
    value: Any = root
    for part in pointer.split("/")[1:]:
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value
