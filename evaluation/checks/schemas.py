"""JSON schemas of draft 2020-12: nothing is fetched for a `$ref`, and patterns are RE2's."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

from evaluation.checks.patterns import compile_pattern, is_found

_LONGEST_SHOWN: Final = 300


def schema_fault(schema: Any) -> str | None:
    """Return what is wrong with a *schema*; None if nothing is."""
    from jsonschema import Draft202012Validator, SchemaError

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as exc:
        return f"is not a JSON schema: {exc.message[:_LONGEST_SHOWN]}"
    except RecursionError:
        return "is nested too deeply"
    for pattern in _patterns(schema):
        try:
            compile_pattern(pattern)
        except ValueError as exc:
            return f"the pattern {pattern[:64]!r} {exc}"
    if any("unevaluatedProperties" in each for each in _objects(schema)):
        return "unevaluatedProperties is not supported; write additionalProperties"
    return next(
        (f"$ref {ref[:64]!r} lies outside of the schema; only #... is read" for ref in _outer_refs(schema)), None
    )


def fault_of_answer(schema: Any, value: Any) -> str | None:
    """Return where *value* breaks the *schema*; None where it does not."""
    from jsonschema import ValidationError

    try:
        _validator(json.dumps(schema, sort_keys=True)).validate(value)
    except ValidationError as exc:
        place = ".".join(map(str, exc.absolute_path))
        return f"{place or 'the value'}: {exc.message[:_LONGEST_SHOWN]}"
    except RecursionError:
        return "the value is nested too deeply"
    return None


@lru_cache(maxsize=256)
def _validator(schema: str) -> Any:
    from jsonschema import Draft202012Validator, validators
    from referencing import Registry

    changed = {"pattern": _pattern, "patternProperties": _named, "additionalProperties": _additional}
    # The library itself would match patterns by `re`, whose time can grow exponentially with an answer's length.
    extend: Any = validators.extend  # its types lack this function's
    kind = extend(Draft202012Validator, changed)
    return kind(json.loads(schema), registry=Registry())


def _fault(message: str) -> Any:
    from jsonschema import ValidationError

    return ValidationError(message)


def _pattern(_: Any, wanted: str, instance: Any, __: Any) -> Iterator[Any]:
    if isinstance(instance, str) and not is_found(wanted, instance):
        yield _fault(f"{instance[:64]!r} does not match {wanted!r}")


def _named(validator: Any, patterns: Mapping[str, Any], instance: Any, __: Any) -> Iterator[Any]:
    for wanted, inner in patterns.items() if isinstance(instance, dict) else ():
        for name, value in instance.items():
            if is_found(wanted, name):
                yield from validator.descend(value, inner, path=name, schema_path=wanted)


def _additional(validator: Any, inner: Any, instance: Any, whole: Mapping[str, Any]) -> Iterator[Any]:
    for name, value in instance.items() if isinstance(instance, dict) else ():
        patterns = whole.get("patternProperties", {})
        if name in whole.get("properties", {}) or any(is_found(each, name) for each in patterns):
            continue
        if inner is False:
            yield _fault(f"the field {name[:64]!r} is not in the schema")
        else:
            yield from validator.descend(value, inner, path=name)


def _patterns(schema: Any) -> Iterator[str]:
    for each in _objects(schema):
        if isinstance(each.get("pattern"), str):
            yield each["pattern"]
        if isinstance(each.get("patternProperties"), dict):
            yield from each["patternProperties"]


def _outer_refs(schema: Any) -> Iterator[str]:
    for each in _objects(schema):
        for name in ("$ref", "$dynamicRef"):
            if isinstance(each.get(name), str) and not each[name].startswith("#"):
                yield each[name]


def _objects(schema: Any) -> Iterator[Mapping[str, Any]]:
    waiting = [schema]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            yield each
            waiting.extend(each.values())
        elif isinstance(each, list):
            waiting.extend(each)
