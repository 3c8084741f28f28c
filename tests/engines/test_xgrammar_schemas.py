"""The parts of a schema that XGrammar leaves unenforced are found, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from engines.xgrammar_schemas import misread_pattern, unenforced

CAT = {"type": "object", "properties": {"kind": {"const": "cat"}, "lives": {"type": "integer"}}, "required": ["kind"]}
DOG = {"type": "object", "properties": {"kind": {"enum": ["dog", "wolf"]}}, "required": ["kind"]}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {"type": "string", "maxLength": 3}}, "required": ["a"]},
        {"properties": {"a": {"type": "integer", "minimum": 0}}, "required": ["a"], "additionalProperties": False},
        {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None, "title": "Name", "nullable": True},
        {"allOf": [{"$ref": "#/$defs/a"}], "description": "as pydantic 1 writes it", "$defs": {"a": {"type": "null"}}},
        {"$ref": "#/$defs/node", "$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#"}}}}},
        {"type": "array", "items": {"type": "string", "format": "date"}, "minItems": 1, "uniqueItems": False},
        {"const": "a", "enum": ["a", "b"], "type": "string"},
        {"type": ["integer", "null"], "enum": [1, None]},
        {"oneOf": [CAT, DOG], "discriminator": {"propertyName": "kind"}},
        {"oneOf": [{"$ref": "#/$defs/cat"}, {"type": ["null", "integer"]}], "$defs": {"cat": CAT}},
        {"type": "object", "patternProperties": {"^a": {"type": "integer"}}, "additionalProperties": False},
        {"type": "object", "propertyNames": {"pattern": "^a+$"}},
        {"type": "boolean", "multipleOf": 2, "contains": {}},
        {"$defs": {"unused": {"not": {}}}, "type": "string", "pattern": "^(a|b)[^c]$|^d$"},
    ],
)
def test_schemas_that_are_kept_to_have_no_finding(schema: dict[str, Any]) -> None:
    assert list(unenforced(schema)) == []


@pytest.mark.parametrize(
    ("schema", "keyword"),
    [
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "oneOf"),
        ({"oneOf": [CAT, CAT]}, "oneOf"),
        ({"oneOf": [CAT, {**DOG, "required": []}]}, "oneOf"),
        ({"type": "object", "oneOf": [{"required": ["a"]}, {"required": ["b"]}]}, "oneOf"),
        ({"not": {"type": "null"}}, "not"),
        ({"type": "object", "if": {}, "then": {}}, "if"),
        ({"type": "object", "dependentRequired": {"a": ["b"]}}, "dependentRequired"),
        ({"type": "object", "dependentSchemas": {"a": {}}}, "dependentSchemas"),
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"type": "array", "contains": {"type": "null"}}, "contains"),
        ({"type": "integer", "multipleOf": 2}, "multipleOf"),
        ({"type": "string", "format": "binary"}, "format"),
        ({"type": "string", "pattern": "^a$", "minLength": 3}, "pattern"),
        ({"type": "string", "pattern": "a^b"}, "pattern"),
        ({"minLength": 3}, "type"),
        ({"required": ["a"]}, "type"),
        ({"type": [], "minLength": 1}, "type"),
        ({"type": "object", "properties": {"b": {}}, "required": ["a"]}, "required"),
        ({"type": "object", "properties": {"a": {}}, "patternProperties": {"^b": {}}}, "patternProperties"),
        ({"type": "object", "properties": {"a": {}}, "propertyNames": {"pattern": "a"}}, "propertyNames"),
        ({"type": "object", "propertyNames": {"minLength": 2}}, "propertyNames"),
        ({"type": "object", "properties": {"a": {}}, "unevaluatedProperties": False}, "unevaluatedProperties"),
        ({"$ref": "https://example.com/a.json"}, "$ref"),
        ({"$ref": "#anchor"}, "$ref"),
        ({"$ref": "#/$defs/a", "minimum": 1, "$defs": {"a": {"type": "integer"}}}, "minimum"),
        ({"allOf": [{"type": "string"}, {"enum": ["a"]}]}, "allOf"),
        ({"anyOf": [{"type": "string"}], "type": "string"}, "type"),
        ({"type": "string", "enum": ["a", 1]}, "type"),
        ({"type": "integer", "const": True}, "type"),
        ({"$ref": "#/a/0", "a": [{"not": {}}]}, "not"),
        ({"type": "array", "prefixItems": [{"items": {"anyOf": [{"not": {}}]}}]}, "not"),
    ],
)
def test_what_is_passed_over_is_named(schema: dict[str, Any], keyword: str) -> None:
    assert [found.keyword for found in unenforced(schema)][:1] == [keyword]


def test_a_finding_has_its_place() -> None:
    [found] = unenforced({"type": "object", "properties": {"a": {"type": "array", "items": {"not": {}}}}})
    assert found.at == "#/properties/a/items"


def test_patterns_that_are_read_otherwise_are_found() -> None:
    assert not any(map(misread_pattern, ("^a$", "(?:^a|b$)", r"[^a]\^\$", "[a^$]", "a{2,3}?")))
    assert all(map(misread_pattern, ("a^b", "a$b", r"\Aa", r"a\Z", "[[:alpha:]]", "[a&&b]")))
