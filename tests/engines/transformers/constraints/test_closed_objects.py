"""An answer by a schema has the properties that the schema names, and those that it allows."""

from __future__ import annotations

import json
from typing import Any

import pytest
from llguidance import LLMatcher

from engines.transformers.constraints.closed_objects import closed
from engines.transformers.constraints.output_rules import schema_grammar

A = {"type": "object", "properties": {"a": {"type": "string"}}}
CLOSED_A = {**A, "additionalProperties": False}


@pytest.mark.parametrize(
    ("schema", "wanted"),
    [
        (A, CLOSED_A),
        ({"type": "array", "items": A}, {"type": "array", "items": CLOSED_A}),
        ({"prefixItems": [A, True]}, {"prefixItems": [CLOSED_A, True]}),
        ({"anyOf": [A, {"type": "null"}]}, {"anyOf": [CLOSED_A, {"type": "null"}]}),
        ({"properties": {"inner": A}}, {"properties": {"inner": CLOSED_A}, "additionalProperties": False}),
        ({"additionalProperties": A}, {"additionalProperties": CLOSED_A}),
        ({"$ref": "#/$defs/a", "$defs": {"a": A}}, {"$ref": "#/$defs/a", "$defs": {"a": CLOSED_A}}),
        # A property may be called like a keyword.
        ({"properties": {"allOf": A}}, {"properties": {"allOf": CLOSED_A}, "additionalProperties": False}),
    ],
)
def test_an_object_that_names_properties_has_no_others(schema: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert closed(schema) == wanted


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        {**A, "additionalProperties": True},
        {**A, "additionalProperties": {"type": "integer"}},
        {**A, "patternProperties": {"^x-": {}}},
        {**A, "required": ["b"]},
        {**A, "required": [{}]},
        {**A, "minProperties": 2},
        {"allOf": [A, {"properties": {"b": {}}}]},
        {**A, "anyOf": [{"required": ["b"]}, {"properties": {"c": {}}}]},
        {**A, "$ref": "#/$defs/b", "$defs": {"b": {"properties": {"b": {}}}}},
        {"items": {"allOf": [{"$ref": "#/$defs/a"}, {"required": ["b"]}]}, "$defs": {"a": A}},
        {"not": A},
        {"if": A, "then": A},
        {"const": A},
        {"enum": [A]},
        True,
        {"properties": [], "required": "a", "items": 5, "anyOf": A},
    ],
)
def test_what_allows_others_or_needs_them_stays_as_it_is(schema: Any) -> None:
    assert closed(schema) == schema


def test_what_stands_beside_schemas_that_are_combined_is_closed() -> None:
    combined = {"allOf": [A, {"properties": {"b": {}}}]}
    assert closed({"properties": {"a": A, "both": combined}}) == {
        "properties": {"a": CLOSED_A, "both": combined},
        "additionalProperties": False,
    }


def test_a_closed_schema_can_be_enforced_where_the_open_one_can() -> None:
    one_of_two = {"anyOf": [{"properties": {"b": {"const": 1}}, "required": ["b"]}, {"properties": {"c": {}}}]}
    for schema in ({**A, **one_of_two}, {"allOf": [A, one_of_two]}, {"properties": {"x": one_of_two}}):
        assert not LLMatcher.validate_grammar(schema_grammar(json.dumps(schema)))
