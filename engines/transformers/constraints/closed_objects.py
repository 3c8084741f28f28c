"""Objects of a JSON Schema without properties that it does not name. Pure.

JSON Schema lets an object have further properties unless it says otherwise. A model that may write them does, up to its
token limit, where whoever wrote the schema wanted those that it names. XGrammar, by which vLLM, SGLang and LMDeploy
hold answers, closes objects as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

_DECIDES: Final = frozenset({"additionalProperties", "patternProperties", "unevaluatedProperties"})
"""Members beside `properties` that decide about further properties."""
_COMBINES: Final = frozenset(
    {"allOf", "not", "if", "then", "else", "dependentSchemas", "unevaluatedProperties", "$dynamicRef", "$recursiveRef"}
)
"""Members by which several schemas hold for one object, each of which names some of its properties."""
_CHOOSES: Final = frozenset({"anyOf", "oneOf", "$ref"})
"""Members that do so beside `properties`."""
_SCHEMA: Final = ("items", "additionalProperties")
_SCHEMAS: Final = ("prefixItems", "anyOf", "oneOf")
_NAMED_SCHEMAS: Final = ("properties", "patternProperties", "$defs", "definitions")


def closed(schema: Any) -> Any:
    """Return *schema* with `additionalProperties: false` in each object that names properties and decides nothing.

    Objects for which several schemas hold, and those that require what they do not name, stay as they are. So does the
    whole of a schema with references in which several hold somewhere: a reference may lead into them.
    """
    schemas = list(_within(schema))
    if any(map(_is_combined, schemas)) and any("$ref" in each for each in schemas):
        return schema
    return _closed(schema)


def _closed(schema: Any) -> Any:
    if not isinstance(schema, dict) or _is_combined(schema):
        return schema
    done = {
        **schema,
        **{name: _closed(schema[name]) for name in _SCHEMA if name in schema},
        **{name: [_closed(each) for each in schema[name]] for name in _SCHEMAS if isinstance(schema.get(name), list)},
        **{
            name: {key: _closed(each) for key, each in schema[name].items()}
            for name in _NAMED_SCHEMAS
            if isinstance(schema.get(name), dict)
        },
    }
    return {**done, "additionalProperties": False} if _can_be_closed(schema) else done


def _can_be_closed(schema: Mapping[str, Any]) -> bool:
    properties, required = schema.get("properties"), schema.get("required", [])
    if not isinstance(properties, dict) or not isinstance(required, list) or _DECIDES & schema.keys():
        return False
    fewest = schema.get("minProperties", 0)
    are_named = all(isinstance(name, str) and name in properties for name in required)
    return are_named and isinstance(fewest, int) and fewest <= len(properties)


def _is_combined(schema: Mapping[str, Any]) -> bool:
    return bool(_COMBINES & schema.keys()) or ("properties" in schema and bool(_CHOOSES & schema.keys()))


def _within(schema: Any) -> Iterator[Mapping[str, Any]]:
    """Yield a schema and all schemas in it."""
    if not isinstance(schema, dict):
        return
    yield schema
    for name in (*_SCHEMA, "not", "if", "then", "else"):
        yield from _within(schema.get(name))
    for name in (*_SCHEMAS, "allOf"):
        for each in schema[name] if isinstance(schema.get(name), list) else ():
            yield from _within(each)
    for name in (*_NAMED_SCHEMAS, "dependentSchemas"):
        for each in schema[name].values() if isinstance(schema.get(name), dict) else ():
            yield from _within(each)
