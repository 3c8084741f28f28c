"""An answer under a rule has the form of the rule, whatever the model would like to say."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from tokenizers import Tokenizer

from engines.transformers.constraints.constraint import Constraint
from engines.transformers.constraints.grammars import GrammarCompiler
from engines.transformers.constraints.output_rules import OutputRule
from engines.transformers.errors import BadRequest

VOCABULARY = 49152
END = 2
MOST_TOKENS = 400
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 130},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 3},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
SCHEMAS: list[dict[str, Any]] = [
    PERSON,
    {"anyOf": [{"type": "null"}, {"const": {"kind": "é"}}]},
    {"type": "array", "prefixItems": [{"type": "boolean"}, {"type": "number", "multipleOf": 5}], "items": False},
    {"$ref": "#/$defs/tree", "$defs": {"tree": {"type": "array", "items": {"$ref": "#/$defs/tree"}, "maxItems": 2}}},
    {"type": "string", "pattern": "^[A-C]{2,4}-[0-9]$"},
    {"type": "string", "format": "date"},
]


@pytest.fixture(scope="module")
def codec(model_folder: Path) -> Tokenizer:
    """The bundled model's tokenizer."""
    tokenizer: Tokenizer = Tokenizer.from_file(str(model_folder / "tokenizer.json"))
    return tokenizer


@pytest.fixture(scope="module")
def compiler(codec: Tokenizer) -> GrammarCompiler:
    return GrammarCompiler(codec, VOCABULARY, [END])


@pytest.fixture
def speak(compiler: GrammarCompiler, codec: Tokenizer) -> Callable[..., str]:
    """A model without sense: any token that may come is as likely as another."""

    def answer(rule: OutputRule, seed: int) -> str:
        constraint, chance = compiler.constraints(rule)(), torch.Generator().manual_seed(seed)
        tokens: list[int] = []
        while not constraint.is_complete and len(tokens) < MOST_TOKENS:
            logits = torch.rand(VOCABULARY, generator=chance)
            constraint.narrow(logits)
            token = int(logits.argmax())
            constraint.advance(token)
            assert constraint.error is None
            if token == END:
                break
            tokens.append(token)
        assert len(tokens) < MOST_TOKENS
        return str(codec.decode(tokens, skip_special_tokens=False))

    return answer


def schema_rule(schema: dict[str, Any]) -> OutputRule:
    return OutputRule("json_schema", json.dumps(schema), "response_format.json_schema.schema")


@pytest.mark.long
@pytest.mark.parametrize("schema", SCHEMAS, ids=range(len(SCHEMAS)))
def test_json_is_valid_by_its_schema(speak: Callable[..., str], schema: dict[str, Any]) -> None:
    for seed in range(5):
        jsonschema.validate(json.loads(speak(schema_rule(schema), seed)), schema)


@pytest.mark.long
def test_regular_expressions_choices_and_grammars_are_kept_to(speak: Callable[..., str]) -> None:
    assert re.fullmatch(r"(yes|no), [0-9]{3}", speak(OutputRule("regex", "(yes|no), [0-9]{3}", "guided_regex"), 1))
    choices = OutputRule("grammar", 'start: "do \\"it\\"" | "leave\\n"', "guided_choice")
    assert {speak(choices, seed) for seed in range(20)} == {'do "it"', "leave\n"}
    for grammar in ('start: sum\nsum: NUMBER ("+" NUMBER)~1..2\nNUMBER: /[1-9]/', 'root ::= [1-9] ("+" [1-9]){1,2}'):
        assert re.fullmatch(r"[1-9](\+[1-9]){1,2}", speak(OutputRule("grammar", grammar, "guided_grammar"), 3))


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (schema_rule({"type": "string", "not": {"const": "a"}}), "not"),
        (schema_rule({"if": {"type": "string"}, "then": {"minLength": 1}}), "if"),
        (schema_rule({"type": "objekt"}), "objekt"),
        (schema_rule({"$ref": "https://example.com/schema.json"}), "example.com"),
        (OutputRule("regex", "(unclosed", "guided_regex"), "unclosed"),
        (OutputRule("grammar", "nonsense without a rule", "guided_grammar"), "cannot be enforced"),
    ],
)
def test_a_rule_that_cannot_be_enforced_is_refused_by_name(
    compiler: GrammarCompiler, rule: OutputRule, said: str
) -> None:
    with pytest.raises(BadRequest) as caught:
        compiler.constraints(rule)
    assert caught.value.param == rule.param
    assert caught.value.message.startswith(rule.param)
    assert said in caught.value.message


def test_each_answer_has_a_state_of_its_own(compiler: GrammarCompiler, codec: Tokenizer) -> None:
    make = compiler.constraints(OutputRule("grammar", 'start: "ab"', "guided_choice"))
    first, second = make(), make()
    (token,) = codec.encode("ab").ids
    first.advance(token)
    assert (first.is_complete, second.is_complete) == (True, False)
    assert allowed(second)[token]


def test_the_end_may_come_where_the_rule_is_satisfied_and_nowhere_else(
    compiler: GrammarCompiler, codec: Tokenizer
) -> None:
    constraint = compiler.constraints(OutputRule("regex", "a+", "guided_regex"))()
    assert not allowed(constraint)[END]
    constraint.advance(codec.encode("a").ids[0])
    assert allowed(constraint)[END]


def allowed(constraint: Constraint) -> torch.Tensor:
    logits = torch.zeros(VOCABULARY)
    constraint.narrow(logits)
    return logits == 0
