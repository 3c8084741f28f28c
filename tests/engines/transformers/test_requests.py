"""Request bodies in OpenAI's format are accepted, null and neutral members too; other fields are refused by name."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import orjson
import pytest
from openai.types.chat import ChatCompletionMessage

from conversations.turns import Call, Turn
from engines.transformers.errors import BadRequest
from engines.transformers.requests.bodies import ChatRequest, CompletionRequest, TokenizeRequest
from engines.transformers.requests.messages import Message, as_turn
from engines.transformers.requests.parsing import Parsed, parse_body

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
TEXT: dict[str, Any] = {"model": "m", "prompt": "hi"}
CALL: dict[str, Any] = {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": '{"id": 7}'}}


def tool(name: str, **fields: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **fields}}


def allowed(*names: str) -> dict[str, Any]:
    return {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [tool(name) for name in names]}}


TOOL = tool("f")
BARE = Turn(role="assistant", content="b")
PYTHON_WORDS = re.compile(r"\b(str|int|dict|dictionary|list|tuple|float|bool|None|Input|sys|python|pydantic)\b")


def refused(model: type[Parsed], body: dict[str, Any]) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        parse_body(model, json.dumps(body).encode())
    return caught.value


def chat_of(*messages: dict[str, Any]) -> dict[str, Any]:
    return {"model": "m", "messages": list(messages)}


def message(**fields: Any) -> Message:
    return parse_body(ChatRequest, orjson.dumps(chat_of(fields))).messages[0]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"temperature": 2.5}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"n": 0}, "n"),
        ({"n": True}, "n"),
        ({"n": 1.5}, "n"),
        ({"n": 2, "best_of": 3}, "best_of"),
        ({"seed": 2**100}, "seed"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"max_completion_tokens": -1}, "max_completion_tokens"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"stop": 5}, "stop"),
        ({"stop": ["a", 5]}, "stop[1]"),
        ({"stream": "yes"}, "stream"),
        ({"presence_penalty": 3}, "presence_penalty"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"logit_bias": {"1_0": 1}}, "logit_bias"),
        ({"logit_bias": {"9" * 5000: 1}}, "logit_bias"),
        ({"logit_bias": {"5": "much"}}, "logit_bias.5"),
        ({"logit_bias": []}, "logit_bias"),
        ({"tools": [{}]}, "tools[0].type"),
        ({"tools": [TOOL, {"type": "function"}]}, "tools[1].function"),
        ({"tools": [TOOL, {"type": "function", "function": {}}]}, "tools[1].function.name"),
        ({"tools": [tool("a b")]}, "tools[0].function.name"),
        ({"tools": [tool("a" * 65)]}, "tools[0].function.name"),
        ({"tools": [TOOL, TOOL]}, "tools[1].function.name"),
        ({"tools": [tool("f", parameters={"type": "string"})]}, "tools[0].function.parameters"),
        ({"tools": [tool("f", parameters="{}")]}, "tools[0].function.parameters"),
        ({"tools": [tool("f", strict="yes")]}, "tools[0].function.strict"),
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools[0].type"),
        ({"tools": [TOOL], "min_tokens": 3}, "body"),
        ({"tools": [tool(f"f{at}") for at in range(129)]}, "tools"),
        ({"tools": "f"}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": "any"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": 5}, "tool_choice"),
        (
            {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}},
            "tool_choice.function.name",
        ),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "name": "f"}}, "tool_choice.function"),
        ({"tools": [TOOL], "tool_choice": allowed("f", "g")}, "tool_choice.allowed_tools.tools[1].function.name"),
        ({"tools": [TOOL], "parallel_tool_calls": "no"}, "parallel_tool_calls"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"messages": [{"role": "tool", "content": "42"}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "tool", "content": "42", "tool_call_id": "c1"}]}, "messages[0].tool_call_id"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [CALL]}, {"role": "tool", "tool_call_id": "c1"}]},
            "messages[1].content",
        ),
        ({"suffix": "end"}, "suffix"),
        ({"min_p": 1.1}, "min_p"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"min_tokens": -1}, "min_tokens"),
        ({"min_tokens": 5, "max_tokens": 4}, "body"),
        ({"min_tokens": 5, "guided_regex": "a"}, "body"),
        ({"chat_template_kwargs": {"tools": []}}, "chat_template_kwargs"),
        ({"chat_template_kwargs": "thinking"}, "chat_template_kwargs"),
        ({"reasoning_effort": "much"}, "reasoning_effort"),
        ({"min_p": False}, "min_p"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"temprature": 1}, "temprature"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}},
            "response_format.json_schema.schema",
        ),
        ({"response_format": {"type": "text", "json_schema": {"schema": {}}}}, "response_format"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"guided_json": "[1"}, "guided_json"),
        ({"guided_json": [1]}, "guided_json"),
        ({"guided_choice": []}, "guided_choice"),
        ({"guided_choice": ["a", ""]}, "guided_choice"),
        ({"guided_regex": ""}, "guided_regex"),
        ({"guided_regex": "a", "guided_choice": ["a"]}, "body"),
        ({"structured_outputs": {"xml": "a"}}, "structured_outputs.xml"),
        ({"structured_outputs": {"regex": "a"}, "response_format": {"type": "json_object"}}, "body"),
        ({"response_format": "json_object"}, "response_format"),
        ({"stream_options": {"usage": True}}, "stream_options.usage"),
        ({"messages": []}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [None]}, "messages[0]"),
        ({"messages": [{"role": "robot", "content": "hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": ["hi"]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "assistant", "content": "a", "prefix": True}]}, "messages[0].prefix"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"id": "x"}]}]}, "messages[0].tool_calls[0].function"),
        ({"model": None}, "model"),
    ],
)
def test_what_is_wrong_is_named_in_the_words_of_json(change: dict[str, Any], param: str) -> None:
    error = refused(ChatRequest, CHAT | change)
    assert error.param == param
    assert error.body["error"].keys() == {"message", "type", "param", "code"}
    assert error.message.startswith(param)
    assert not PYTHON_WORDS.search(error.message.split("; it takes")[0])
    assert len(error.message) < 1000


@pytest.mark.parametrize(
    ("prompt", "param"),
    [
        ([-1], "prompt[0]"),
        ([1, 2.5], "prompt[1]"),
        ([2**70], "prompt[0]"),
        ([[1], ["a"]], "prompt[1][0]"),
        ([[1], []], "prompt[1]"),
        (["a", 1], "prompt[1]"),
        ([], "prompt"),
        ({}, "prompt"),
        (5, "prompt"),
        (None, "prompt"),
    ],
)
def test_a_wrong_prompt_is_named_to_its_entry(prompt: Any, param: str) -> None:
    error = refused(CompletionRequest, TEXT | {"prompt": prompt})
    assert error.param == param
    assert not PYTHON_WORDS.search(error.message)


@pytest.mark.parametrize("kind", ["image_url", "input_audio", "file", "video_url"])
def test_a_part_that_is_no_text_is_named_with_its_kind(kind: str) -> None:
    parts = [{"type": "text", "text": "what is it"}, {"type": kind, kind: {"url": "data:"}}]
    error = refused(ChatRequest, chat_of({"role": "user", "content": parts}))
    assert error.param == "messages[0].content[1].type"
    assert f'must be "text", not "{kind}"' in error.message


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"[" * 5000, b'{"a": 1e999}', b'{"a": "\\ud800"}'])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_body(ChatRequest, body)
    assert not PYTHON_WORDS.search(caught.value.message.split("JSON:")[-1].replace("Input is a", ""))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("response_format", b'{"type":"json_schema","json_schema":{"schema":%s}}'),
        ("guided_json", b"%s"),
        ("tools", b'[{"type":"function","function":{"name":"f","parameters":%s}}]'),
        ("chat_template_kwargs", b"%s"),
    ],
)
@pytest.mark.parametrize("levels", [101, 300, 1000])
def test_what_is_nested_too_deeply_is_refused_by_its_field(field: str, value: bytes, levels: int) -> None:
    deep = b'{"items":' * levels + b"{}" + b"}" * levels
    with pytest.raises(BadRequest, match="at most 100 levels") as caught:
        parse_body(ChatRequest, json.dumps(CHAT).encode()[:-1] + b', "%s": %s}' % (field.encode(), value % deep))
    assert caught.value.param == field


def test_a_schema_that_is_a_string_may_not_be_deeper() -> None:
    deep = '{"items":' * 300 + "{}" + "}" * 300
    with pytest.raises(BadRequest, match="guided_json must be nested at most 100 levels"):
        parse_body(ChatRequest, json.dumps({**CHAT, "guided_json": deep}).encode())


def without_nulls(value: Any) -> Any:
    if isinstance(value, list):
        return [without_nulls(each) for each in value]
    if isinstance(value, dict):
        return {name: without_nulls(each) for name, each in value.items() if each is not None}
    return value


def test_null_is_absent_at_every_depth() -> None:
    fields = dict.fromkeys(set(ChatRequest.model_fields) - {"model", "messages", "stream_options"})
    side: dict[str, Any] = dict.fromkeys(
        ["name", "refusal", "annotations", "audio", "function_call", "tool_calls", "whatever"]
    )
    call = CALL | {"index": None, "function": CALL["function"] | {"parsed": None}}
    body: dict[str, Any] = {
        **CHAT,
        **fields,
        **dict.fromkeys(["tools", "tool_choice", "suffix", "min_p", "a_field_of_tomorrow"]),
        "stream_options": {"include_usage": None},
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "a", "cache_control": None}], **side},
            {"role": "assistant", "content": None, **side, "tool_calls": [call]},
        ],
    }
    parsed = parse_body(ChatRequest, orjson.dumps(body))
    assert parsed == parse_body(ChatRequest, orjson.dumps(without_nulls(body)))
    parse_body(TokenizeRequest, orjson.dumps(CHAT | {"prompt": None, "add_generation_prompt": None}))


def test_an_answer_of_the_sdk_is_taken_back_as_it_was_dumped() -> None:
    answer = ChatCompletionMessage.model_validate({"role": "assistant", "content": "b", "refusal": None})
    assert message(**answer.model_dump()).text == "b"
    called = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    dumped = ChatCompletionMessage.model_validate(called).model_dump()
    assert [call.name for call in message(**dumped).calls] == ["look_up"]


@pytest.mark.parametrize(
    "side",
    [
        {"reasoning_content": "hm"},
        {"reasoning": "hm", "reasoning_details": [{"type": "reasoning.text"}]},
        {"annotations": []},
        {"annotations": [{"type": "url_citation"}]},
        {"tool_calls": []},
        {"cache_control": {"type": "ephemeral"}},
        {"name": ""},
        {"prefix": False},
        {"images": []},
        {"provider_specific_fields": {"a": None}},
        {"thinking_blocks": [{"type": "thinking", "thinking": "hm"}]},
    ],
)
def test_what_clients_of_other_providers_leave_in_messages_is_passed_over(side: dict[str, Any]) -> None:
    assert replace(as_turn(message(role="assistant", content="b", **side)), name=None) == BARE


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ([{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}], "a"),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b", "annotations": []}], "ab"),
        ([{"type": "output_text", "text": "a"}, {"type": "refusal", "refusal": "no"}], "ano"),
        ([{"type": "thinking", "thinking": "hm", "signature": "x"}, {"type": "text", "text": "a"}], "a"),
        ([], ""),
    ],
)
def test_parts_become_one_text(parts: Any, text: str) -> None:
    assert message(role="assistant", content=parts).text == text


NEUTRAL: list[dict[str, Any]] = [
    {"tools": []},
    {"tools": [], "tool_choice": "auto", "parallel_tool_calls": True},
    {"functions": [], "function_call": "none"},
    {"modalities": ["text"]},
    {"repetition_penalty": 1.0},
    {"repetition_penalty": 1},
    {"min_p": 0.0},
    {"min_tokens": 0},
    {"skip_special_tokens": True},
    {"chat_template_kwargs": {}},
    {"thinking": {"type": "disabled"}},
    {"stop": ""},
    {"stop": []},
    {"stop": [""]},
    {"n": 1},
    {"best_of": 1},
    {"presence_penalty": 0, "frequency_penalty": 0.0},
    {"logit_bias": {}},
    {"top_k": -1},
    {"suffix": ""},
    {"echo": False},
]


@pytest.mark.parametrize("more", [*NEUTRAL, {"response_format": {"type": "text"}}, {"top_logprobs": 0}])
def test_values_that_ask_for_nothing_change_nothing_in_a_chat(more: dict[str, Any]) -> None:
    parsed, plain = (parse_body(ChatRequest, orjson.dumps(body)) for body in (CHAT | more, CHAT))
    differ = {name for name in ChatRequest.model_fields if getattr(parsed, name) != getattr(plain, name)}
    assert differ <= {"top_k", "response_format", "top_logprobs", "best_of", "tool_choice"}


@pytest.mark.parametrize("more", [*NEUTRAL, {"logprobs": False}, {"n": 3, "best_of": 3}])
def test_values_that_ask_for_nothing_are_taken_in_a_completion(more: dict[str, Any]) -> None:
    parsed = parse_body(CompletionRequest, orjson.dumps(TEXT | more))
    assert (parsed.stop, parsed.logprobs) == ([], None)


def test_a_field_that_may_only_ask_for_nothing_says_so() -> None:
    error = refused(CompletionRequest, TEXT | {"tools": [1]})
    assert "except as [], which asks for nothing; it takes best_of, " in error.message


def test_older_fields_name_those_that_took_their_place() -> None:
    functions = [{"name": "f"}]
    assert "tools took its place" in refused(ChatRequest, CHAT | {"functions": functions}).message
    assert "tool_choice took its place" in refused(ChatRequest, CHAT | {"function_call": {"name": "f"}}).message


@pytest.mark.parametrize("tokens", ["5", "5.0", "50e-1"])
def test_a_whole_number_may_be_written_in_any_way(tokens: str) -> None:
    body = orjson.dumps(CHAT)[:-1] + f', "max_tokens": {tokens}}}'.encode()
    assert parse_body(ChatRequest, body).max_tokens == 5


def test_a_number_that_is_too_large_is_not_called_broken() -> None:
    assert "must be a whole number of at most 64 bits" in refused(ChatRequest, CHAT | {"seed": 2**100}).message


def test_developers_speak_as_the_system() -> None:
    assert as_turn(message(role="developer", content="a")) == Turn(role="system", content="a")


def test_calls_and_results_become_turns() -> None:
    called = parse_body(
        ChatRequest,
        orjson.dumps(
            chat_of(
                {"role": "assistant", "content": None, "tool_calls": [CALL]},
                {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "42"}]},
                {"role": "assistant", "content": None, "function_call": CALL["function"]},
                {"role": "function", "name": "look_up", "content": "43"},
            )
        ),
    )
    assert [as_turn(each) for each in called.messages] == [
        Turn(role="assistant", content="", calls=(Call(name="look_up", arguments={"id": 7}, id="c1"),)),
        Turn(role="tool", content="42", call_id="c1"),
        Turn(role="assistant", content="", calls=(Call(name="look_up", arguments={"id": 7}),)),
        Turn(role="tool", content="43", name="look_up"),
    ]


@pytest.mark.parametrize(
    ("choice", "names", "is_required", "may_be_several"),
    [
        (None, "fg", False, True),
        ("auto", "fg", False, True),
        ("required", "fg", True, True),
        ({"type": "function", "function": {"name": "g"}}, "g", True, False),
        (allowed("g"), "g", False, True),
    ],
)
def test_a_choice_says_which_functions_may_be_called(
    choice: Any, names: str, is_required: bool, may_be_several: bool
) -> None:
    body = CHAT | {"tools": [tool("f"), tool("g")], "tool_choice": choice}
    use = parse_body(ChatRequest, orjson.dumps(body)).tool_use
    assert use is not None
    assert use.may_call
    assert "".join(function.name for _, function in use.functions) == names
    assert (use.is_required, use.may_be_several) == (is_required, may_be_several)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a", ["a"]),
        (["a", "b"], ["a", "b"]),
        ([1, 2], [[1, 2]]),
        ([1.0, 2], [[1, 2]]),
        ([[1], [2, 3]], [[1], [2, 3]]),
    ],
)
def test_prompts_are_texts_or_tokens_one_or_many(prompt: Any, expected: list[Any]) -> None:
    assert parse_body(CompletionRequest, orjson.dumps({"model": "m", "prompt": prompt})).prompts == expected
