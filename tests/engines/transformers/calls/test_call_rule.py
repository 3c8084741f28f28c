"""An answer beside tools is text or calls; the arguments of a call are valid by the schema of its function."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import orjson
import pytest
import torch
from tokenizers import Tokenizer

from conversations.call_forms import HERMES, LLAMA, MISTRAL, CallForm
from engines.transformers.calls.call_reader import CallReader
from engines.transformers.calls.tool_offer import ToolOffer, tool_offer
from engines.transformers.constraints.constraint import Constraint
from engines.transformers.constraints.grammars import GrammarCompiler
from engines.transformers.errors import BadRequest
from engines.transformers.requests.bodies import ChatRequest
from engines.transformers.requests.parsing import parse_body

VOCABULARY = 49152
END = 2
MOST_TOKENS = 500
ARGUMENTS: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"enum": ["Paris", "Rome"]}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["city", "days"],
}
WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": ARGUMENTS}}
CLOCK = {"type": "function", "function": {"name": "get_time"}}
SCHEMAS = {"get_weather": ARGUMENTS | {"additionalProperties": False}, "get_time": {"enum": [{}]}}
NOT_ENFORCED = {"type": "object", "properties": {"a": {"not": {"type": "string"}}}, "required": ["a"]}
CALLED = '{"name": "get_weather", "arguments": {"city": "Rome", "days": 2}}'


@pytest.fixture(scope="module")
def codec(model_folder: Path) -> Tokenizer:
    """The bundled model's tokenizer."""
    tokenizer: Tokenizer = Tokenizer.from_file(str(model_folder / "tokenizer.json"))
    return tokenizer


@pytest.fixture(scope="module")
def compiler(codec: Tokenizer) -> GrammarCompiler:
    return GrammarCompiler(codec, VOCABULARY, [END])


def offer(form: CallForm | None = HERMES, **fields: Any) -> ToolOffer:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "tools": [WEATHER, CLOCK]} | fields
    request = parse_body(ChatRequest, orjson.dumps(body))
    return tool_offer(request, request.output_rule, form)


def allowed(constraint: Constraint, token: int) -> bool:
    logits = torch.zeros(VOCABULARY)
    constraint.narrow(logits)
    return bool(logits[token] == 0)


@pytest.fixture
def takes(compiler: GrammarCompiler, codec: Tokenizer) -> Callable[..., bool]:
    """Whether an answer under an offer may be this text and end there."""

    def check(offered: ToolOffer, text: str) -> bool:
        assert offered.rule is not None
        constraint = compiler.constraints(offered.rule)()
        for token in codec.encode(text).ids:
            if not allowed(constraint, token):
                return False
            constraint.advance(token)
        return constraint.is_complete or allowed(constraint, END)

    return check


@pytest.fixture
def speak(compiler: GrammarCompiler, codec: Tokenizer) -> Callable[[ToolOffer, int], str]:
    """A model without sense: any token that may come is as likely as another."""

    def answer(offered: ToolOffer, seed: int) -> str:
        assert offered.rule is not None
        constraint, chance = compiler.constraints(offered.rule)(), torch.Generator().manual_seed(seed)
        tokens: list[int] = []
        while not constraint.is_complete and len(tokens) < MOST_TOKENS:
            logits = torch.rand(VOCABULARY, generator=chance)
            constraint.narrow(logits)
            token = END if logits[END] > 0 else int(logits.argmax())
            constraint.advance(token)
            assert constraint.error is None
            if token == END:
                break
            tokens.append(token)
        return str(codec.decode(tokens, skip_special_tokens=False))

    return answer


def hermes(*bodies: str) -> str:
    return "\n".join(f"<tool_call>\n{body}\n</tool_call>" for body in bodies)


@pytest.mark.long
@pytest.mark.parametrize("form", [HERMES, LLAMA, MISTRAL], ids=lambda form: form.name)
def test_arguments_are_valid_whatever_the_model_would_write(
    speak: Callable[[ToolOffer, int], str], form: CallForm
) -> None:
    offered, names = offer(form, tool_choice="required"), set()
    for seed in range(8):
        reader, calls = CallReader(form), dict[int, list[str]]()
        for piece in reader.push(speak(offered, seed)).calls:
            calls.setdefault(piece.index, []).append(piece.name or piece.arguments)
        assert reader.finished == len(calls) > 0
        for name, *parts in calls.values():
            jsonschema.validate(json.loads("".join(parts)), SCHEMAS[name])
            names.add(name)
    assert names == {"get_weather", "get_time"}


@pytest.mark.long
@pytest.mark.parametrize(
    ("fields", "text", "is_taken"),
    [
        ({}, "It is sunny.", True),
        ({}, "", True),
        ({}, hermes(CALLED), True),
        ({}, f"Let me look.\n{hermes(CALLED)}", True),
        ({}, hermes(CALLED, CALLED), True),
        ({}, "a <tool_call> is a tag", False),
        ({}, hermes(CALLED) + " and text", False),
        ({}, hermes(CALLED.replace("get_weather", "get_news")), False),
        ({}, hermes(CALLED.replace("2", "20")), False),
        ({}, hermes(CALLED.replace(', "days": 2', "")), False),
        ({}, hermes(CALLED.replace("2}", '2, "more": 1}')), False),
        ({"parallel_tool_calls": False}, hermes(CALLED), True),
        ({"parallel_tool_calls": False}, hermes(CALLED, CALLED), False),
        ({"tool_choice": "required"}, "It is sunny.", False),
        ({"tool_choice": "required"}, hermes(CALLED, CALLED), True),
        ({"tool_choice": "none"}, "It is sunny.", True),
        ({"tool_choice": "none"}, hermes(CALLED), False),
        ({"tool_choice": {"type": "function", "function": {"name": "get_time"}}}, hermes(CALLED), False),
        ({"tool_choice": {"type": "function", "function": {"name": "get_weather"}}}, hermes(CALLED), True),
        ({"tool_choice": {"type": "function", "function": {"name": "get_weather"}}}, hermes(CALLED, CALLED), False),
        ({"response_format": {"type": "json_object"}}, '{"a": 1}', True),
        ({"response_format": {"type": "json_object"}}, hermes(CALLED), True),
        ({"response_format": {"type": "json_object"}}, "It is sunny.", False),
        ({"guided_regex": "a+"}, "aaa", True),
        ({"guided_regex": "a+"}, hermes(CALLED), True),
        ({"guided_choice": ["yes"]}, "no", False),
        ({"guided_choice": ["yes"], "tool_choice": "none"}, "yes", True),
    ],
)
def test_an_answer_is_text_or_calls_as_the_request_allows(
    takes: Callable[..., bool], fields: dict[str, Any], text: str, is_taken: bool
) -> None:
    assert takes(offer(**fields), text) is is_taken


@pytest.mark.parametrize(
    ("text", "is_taken"),
    [
        ('{"name": "get_time", "parameters": {}}', True),
        ('{"name": "get_news", "parameters": {}}', False),
        ('{"named": 1}', True),
        ("It is sunny.", True),
    ],
)
def test_a_model_whose_calls_have_no_tag_calls_with_its_first_letters(
    takes: Callable[..., bool], text: str, is_taken: bool
) -> None:
    assert takes(offer(LLAMA), text) is is_taken


@pytest.mark.long
def test_a_special_token_may_begin_the_calls(codec: Tokenizer) -> None:
    marked = Tokenizer.from_str(codec.to_str())
    marked.add_special_tokens(["[TOOL_CALLS]"])
    [mark] = marked.encode("[TOOL_CALLS]").ids
    compiler = GrammarCompiler(marked, VOCABULARY + 1, [END])
    offered = offer(MISTRAL)
    assert offered.rule is not None
    constraint = compiler.constraints(offered.rule)()
    call = ' [{"name": "get_time", "arguments": {}}]'
    for token in [*marked.encode("Wait.").ids, mark, *marked.encode(call).ids]:
        constraint.advance(token)
    assert constraint.error is None
    assert constraint.is_complete


def test_a_strict_function_that_cannot_be_enforced_is_refused_and_another_takes_any_object(
    compiler: GrammarCompiler, takes: Callable[..., bool]
) -> None:
    function = {"name": "f", "parameters": NOT_ENFORCED}
    loose = offer(tools=[CLOCK, {"type": "function", "function": function}])
    assert takes(loose, hermes('{"name": "f", "arguments": {"a": "b"}}'))
    strict = offer(tools=[CLOCK, {"type": "function", "function": function | {"strict": True}}]).rule
    assert strict is not None
    with pytest.raises(BadRequest, match="cannot be enforced") as caught:
        compiler.constraints(strict)
    assert caught.value.param == "tools[1].function.parameters"


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"properties": []}, "properties must be an object"),
        ({"properties": {"a": 5}}, "schema must be an object or boolean"),
        ({"properties": {"a": {"type": "strin"}}}, "Invalid type: strin"),
        ({"properties": {"a": {"enum": "x"}}}, "enum must be an array"),
        ({"properties": {"a": {"$ref": "#/$defs/b"}}}, "/$defs/b"),
        ({"required": "a"}, "required"),
        ({"properties": {"a": False}, "required": ["a"]}, "Unsatisfiable"),
    ],
)
def test_a_schema_that_is_wrong_is_refused_without_strict_too(
    compiler: GrammarCompiler, schema: dict[str, Any], said: str
) -> None:
    function = {"name": "f", "parameters": {"type": "object", **schema}}
    rule = offer(tools=[CLOCK, {"type": "function", "function": function}]).rule
    assert rule is not None
    with pytest.raises(BadRequest) as caught:
        compiler.constraints(rule)
    assert caught.value.param == "tools[1].function.parameters"
    assert said in caught.value.message


def test_what_a_model_cannot_do_with_tools_is_refused_by_name() -> None:
    with pytest.raises(BadRequest, match="in a form that this engine does not read") as caught:
        offer(None)
    assert caught.value.param == "tools"
    with pytest.raises(BadRequest, match="cannot be enforced beside tools") as caught:
        offer(LLAMA, response_format={"type": "json_object"})
    assert caught.value.param == "response_format"


def test_a_model_that_must_not_call_is_not_shown_the_tools() -> None:
    assert (offer(tool_choice="none").shown, offer(tool_choice="none").read_form) == ((), None)
    assert [tool["function"]["name"] for tool in offer().shown] == ["get_weather", "get_time"]
