"""Whether engines keep to the form that a request prescribes: what one would pass over in silence is refused. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import orjson

from engines.catalog import kind_of
from engines.kinds import OutputForms
from engines.xgrammar_schemas import misread_pattern, unenforced
from gateway.errors import CallsNotRead, NotEnforceable
from gateway.routing.routing import Endpoint

_FORMS: Final = frozenset(
    {
        *("response_format", "structured_outputs", "guided_json", "guided_regex", "guided_choice", "guided_grammar"),
        *("regex", "ebnf", "json_schema", "structural_tag", "functions"),
    }
)
PRESCRIBING: Final = _FORMS | {"tools"}
"""Fields of a completion that prescribe a form; a request without them needs no look."""
_REGEX_FORMAT: Final = "regex_schema"


def check_enforceable(asked: Mapping[str, Any], path: str, endpoints: Sequence[Endpoint]) -> None:
    """Return if each of the *endpoints* keeps to what is asked on *path*; `CallsNotRead`, `NotEnforceable`."""
    tools = asked.get("tools") if asked.get("tool_choice") != "none" else None
    for engine, pool, reads_calls in sorted({(each.engine, each.pool, each.reads_calls) for each in endpoints}):
        if tools and not reads_calls:
            raise CallsNotRead(
                f"tools cannot be used here: pool {pool!r} of {engine} engines has no parser for the calls of its "
                "model, which would stay in the text. Its setting tool_call_parser names one",
                param="tools",
            )
        forms = kind_of(engine).output_forms
        if forms is not None:
            check_forms(asked, path, engine, forms)
            _check_strict(tools, engine, forms)


def check_forms(asked: Mapping[str, Any], path: str, engine: str, forms: OutputForms) -> None:
    """Return if engines of this kind keep to the forms that are asked for; `NotEnforceable`."""
    known = forms.fields.get(path, frozenset())
    for field in sorted(_FORMS & asked.keys()):
        value = asked[field]
        if field == "response_format" and isinstance(value, dict) and value.get("type") == "text":
            continue
        if field not in known:
            instead = "tools" if field == "functions" else " or ".join(sorted(known))
            rest = f"; send {instead}" if instead else ""
            raise NotEnforceable(f"{field} is not read by {engine} engines on {path}{rest}", param=field)
    for field, schema in _schemas(asked):
        _check_schema(field, schema, engine, forms.left_to_guidance)
    for field, pattern in _patterns(asked):
        if why := misread_pattern(pattern):
            raise NotEnforceable(f"{field} is not enforced by {engine} engines: the pattern {why}", param=field)
    kind = _object(asked.get("response_format")).get("type")
    if isinstance(kind, str) and kind not in forms.formats:
        listed = ", ".join(sorted(forms.formats))
        field = "response_format.type"
        raise NotEnforceable(f"{field} {kind[:64]!r} is unknown to {engine} engines, which know {listed}", param=field)


def _check_strict(tools: Any, engine: str, forms: OutputForms) -> None:
    for place, tool in enumerate(tools if isinstance(tools, list) else ()):
        function = _object(_object(tool).get("function"))
        if function.get("strict") is not True:
            continue
        field = f"tools[{place}].function"
        if not forms.holds_strict_calls:
            raise NotEnforceable(
                f"{field}.strict is not enforced by {engine} engines: without it the model may still call the function",
                param=f"{field}.strict",
            )
        # For calls vLLM takes XGrammar whatever is in the schema.
        _check_schema(f"{field}.parameters", _object(function.get("parameters")), engine, frozenset())


def _check_schema(field: str, schema: Mapping[str, Any], engine: str, left: frozenset[str]) -> None:
    found = list(unenforced(schema))
    if any(each.keyword in left and each.is_typed for each in found) and not _has_patterns(schema):
        return
    for each in found:
        why = f": {each.why}" if each.why else ""
        raise NotEnforceable(
            f"{field} is not enforced by {engine} engines for its {each.keyword!r} at {each.at}{why}", param=field
        )


def _has_patterns(schema: Any) -> bool:
    """Whether `patternProperties` is anywhere: vLLM then takes Outlines, which passes over much as well."""
    if isinstance(schema, dict):
        return "patternProperties" in schema or any(_has_patterns(each) for each in schema.values())
    return isinstance(schema, list) and any(_has_patterns(each) for each in schema)


def _schemas(asked: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield field and value of the JSON Schemas for the answer."""
    form = _object(_object(asked.get("response_format")).get("json_schema"))
    yield "response_format.json_schema.schema", _object(form.get("schema"))
    yield "structured_outputs.json", _object(_object(asked.get("structured_outputs")).get("json"))
    yield "json_schema", _object(asked.get("json_schema"))


def _patterns(asked: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield field and value of the regular expressions for the answer."""
    for field, value in (
        ("regex", asked.get("regex")),
        ("structured_outputs.regex", _object(asked.get("structured_outputs")).get("regex")),
        (f"response_format.{_REGEX_FORMAT}", _object(asked.get("response_format")).get(_REGEX_FORMAT)),
    ):
        if isinstance(value, str):
            yield field, value


def _object(value: Any) -> Mapping[str, Any]:
    """Return an object; a text is read, as some clients send schemas so. Empty for what the engine is to refuse."""
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            return {}
    return value if isinstance(value, dict) else {}
