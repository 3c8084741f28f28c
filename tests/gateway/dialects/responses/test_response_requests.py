"""A request in Responses' form is a chat for engines; what is wrong or not supported is named."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects.dialect import Arrival, Needed
from gateway.dialects.responses.dialect import InputTokensDialect, ResponsesDialect
from gateway.errors import InvalidRequest
from registry.responses.types import StoredResponse
from tests.gateway.dialects.responses.response_form import (
    DIALECT,
    TOKEN,
    WEATHER,
    chat,
    message,
    messages,
    stored,
    whole,
)


def test_a_text_is_a_message_of_the_user_and_instructions_are_the_systems() -> None:
    assert messages("hi", instructions="be brief") == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "hi"},
    ]


def test_the_texts_of_the_system_at_the_beginning_are_one_message() -> None:
    given = [
        {"role": "developer", "content": "a"},
        {"role": "user", "content": "hi"},
        {"role": "system", "content": "b"},
    ]
    assert messages(given, instructions="be brief") == [
        {"role": "system", "content": "be brief\n\na"},
        {"role": "user", "content": "hi"},
        {"role": "system", "content": "b"},
    ]


def test_pictures_go_on_as_parts_of_a_chat() -> None:
    parts = [{"type": "input_text", "text": "what?"}, {"type": "input_image", "image_url": "data:x", "detail": "low"}]
    assert messages([{"role": "user", "content": parts}])[0]["content"] == [
        {"type": "text", "text": "what?"},
        {"type": "image_url", "image_url": {"url": "data:x", "detail": "low"}},
    ]


def test_the_output_of_a_response_is_input_of_the_next_one() -> None:
    calls = [
        {"id": f"call_{n}", "function": {"name": "weather", "arguments": f'{{"at": {n}}}'}, "type": "function"}
        for n in (1, 2)
    ]
    answer = whole(message({"content": "Let me see.", "reasoning_content": "hm", "tool_calls": calls}, "tool_calls"))
    outputs = [{"type": "function_call_output", "call_id": f"call_{n}", "output": "rain"} for n in (1, 2)]
    found = messages([{"role": "user", "content": "hi"}, *answer["output"], *outputs])
    assert found == [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "Let me see.", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
        {"role": "tool", "tool_call_id": "call_2", "content": "rain"},
    ]


def test_an_item_is_referred_to_within_a_stored_response() -> None:
    item = {"id": f"msg_{TOKEN}_0", "type": "message", "role": "assistant", "content": [{"text": "yes"}]}
    given = [{"type": "item_reference", "id": item["id"]}, {"role": "user", "content": "why?"}]
    needed = DIALECT.needs({"model": "m", "input": given})
    assert needed == Needed(None, frozenset({f"resp_{TOKEN}"}))
    arrival = Arrival(1.0, "cd" * 24, referenced={f"resp_{TOKEN}": stored(output=[item])})
    assert chat(arrival, input=given)["messages"][0] == {"role": "assistant", "content": "yes"}
    with pytest.raises(InvalidRequest, match=f"msg_{TOKEN}_0' not found"):
        chat(input=given)


def test_a_conversation_goes_on_from_stored_responses_without_their_instructions() -> None:
    said = {"id": "msg_1", "type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "a"}]}
    asked = {"id": "msg_0", "type": "message", "role": "user", "content": [{"type": "input_text", "text": "q"}]}
    first = StoredResponse(
        id="resp_1", previous=None, body={"output": [said], "instructions": "old"}, input_items=(asked,), created_at=0
    )
    found = chat(Arrival(1.0, TOKEN, (first,)), input="more", previous_response_id="resp_1", instructions="new")
    assert [each["content"] for each in found["messages"]] == ["new", "q", "a", "more"]


def test_fields_become_those_of_the_chat() -> None:
    found = chat(
        input="hi",
        max_output_tokens=9,
        temperature=0.5,
        top_p=0.9,
        user="u",
        include=["message.output_text.logprobs"],
        top_logprobs=2,
        reasoning={"effort": "low", "summary": "auto"},
        text={"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}},
        seed=1,
        stream=True,
        truncation="disabled",
        background=False,
        service_tier="auto",
    )
    schema = {"name": "n", "schema": {"type": "object"}, "strict": True}
    assert {name: value for name, value in found.items() if name != "messages"} == {
        "model": "m",
        "max_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.9,
        "user": "u",
        "logprobs": True,
        "top_logprobs": 2,
        "reasoning_effort": "low",
        "response_format": {"type": "json_schema", "json_schema": schema},
        "seed": 1,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("required", "required"),
        ({"type": "function", "name": "weather"}, {"type": "function", "function": {"name": "weather"}}),
        ({"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "weather"}]}, "required"),
    ],
)
def test_every_choice_of_a_tool_is_one_of_the_chats(choice: Any, sent: Any) -> None:
    other = WEATHER | {"name": "other", "strict": True}
    found = chat(input="hi", tools=[WEATHER, other], tool_choice=choice, parallel_tool_calls=False)
    assert (found["tool_choice"], found["parallel_tool_calls"]) == (sent, False)
    names = [tool["function"]["name"] for tool in found["tools"]]
    assert names == (["weather"] if "tools" in choice else ["weather", "other"])


def test_what_is_said_about_tools_without_tools_asks_for_nothing() -> None:
    assert chat(input="hi", tools=[WEATHER], tool_choice="none").keys() == {"model", "messages"}
    assert chat(input="hi", tools=[], tool_choice="auto", parallel_tool_calls=True).keys() == {"model", "messages"}


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        ({}, "input"),
        ({"input": 5}, "input"),
        ({"input": []}, "input"),
        ({"input": [5]}, "input[0]"),
        ({"input": [{"role": "robot", "content": "hi"}]}, "input[0].role"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "input[0].content[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]}, "file_id"),
        ({"input": [{"type": "web_search_call"}]}, "input[0].type"),
        ({"input": [{"type": "function_call", "call_id": "c", "name": "n"}]}, "input[0].arguments"),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": "o"}]}, "input"),
        ({"input": [{"type": "function_call", "call_id": "c", "name": "n", "arguments": ""}]}, "input"),
        ({"input": "hi", "instructions": 5}, "instructions"),
        ({"input": "hi", "tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"input": "hi", "tools": {}}, "tools"),
        ({"input": "hi", "tool_choice": "required"}, "tool_choice"),
        ({"input": "hi", "tools": [WEATHER], "tool_choice": {"type": "function", "name": "x"}}, "tool_choice.name"),
        ({"input": "hi", "tools": [WEATHER], "tool_choice": {"type": "mcp"}}, "tool_choice.type"),
        ({"input": "hi", "background": True}, "background"),
        ({"input": "hi", "conversation": "conv_1"}, "conversation"),
        ({"input": "hi", "prompt": {"id": "p"}}, "prompt"),
        ({"input": "hi", "truncation": "auto"}, "truncation"),
        ({"input": "hi", "service_tier": "flex"}, "service_tier"),
        ({"input": "hi", "text": {"verbosity": "low"}}, "text.verbosity"),
        ({"input": "hi", "text": {"format": {"type": "grammar"}}}, "text.format.type"),
        ({"input": "hi", "text": {"format": {"type": "json_schema"}}}, "text.format.name"),
        ({"input": "hi", "reasoning": {"summary": "detailed"}}, "reasoning.summary"),
        ({"input": "hi", "include": ["everything"]}, "include[0]"),
        ({"input": "hi", "include": [["x"]]}, "include[0]"),
        ({"input": "hi", "top_logprobs": 21}, "top_logprobs"),
        ({"input": "hi", "max_output_tokens": 0}, "max_output_tokens"),
        ({"input": "hi", "max_output_tokens": True}, "max_output_tokens"),
        ({"input": "hi", "metadata": {"a": 1}}, "metadata"),
        ({"input": "hi", "metadata": [1]}, "metadata"),
        ({"input": "hi", "stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation"),
        ({"input": "hi", "store": "yes"}, "store"),
        ({"input": "hi", "messages": []}, "messages"),
        ({"input": "hi", "n": 2}, "n"),
    ],
)
def test_what_is_wrong_or_not_supported_is_named(request_: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as told:
        chat(**request_)
    assert told.value.param is not None
    assert told.value.param == param or told.value.param.endswith(f".{param}")
    assert str(told.value)


def test_a_house_may_store_nothing() -> None:
    house = ResponsesDialect(may_store=False)
    with pytest.raises(InvalidRequest, match="store_responses"):
        house.translate({"model": "m", "input": "hi", "store": True}, Arrival(1.0, TOKEN))
    translator = house.translate({"model": "m", "input": "hi"}, Arrival(1.0, TOKEN)).begin()
    translator.whole(message({"content": "yes"}))
    assert translator.to_keep(2.0) is None
    assert orjson.loads(translator.end(is_kept=False))["store"] is False


def test_the_prompt_of_a_response_is_counted_with_its_tools() -> None:
    request: dict[str, Any] = {
        "model": "m",
        "input": "hi",
        "instructions": "be brief",
        "tools": [WEATHER],
        "max_output_tokens": 3,
    }
    translation = InputTokensDialect().translate(request, Arrival(1.0, TOKEN))
    assert translation.body == {name: chat(**request)[name] for name in ("model", "messages", "tools")}
    translator = translation.begin()
    translator.whole({"count": 42, "tokens": []})
    assert translator.to_keep(2.0) is None
    assert orjson.loads(translator.end(is_kept=False)) == {"object": "response.input_tokens", "input_tokens": 42}


@pytest.mark.parametrize(
    ("field", "asked"),
    [
        ("max_tokens", "max_output_tokens"),
        ("messages[3].content", "input"),
        ("response_format.json_schema.schema", "text.format"),
        ("tools[1].function.parameters", "tools[1].parameters"),
        ("temperature", "temperature"),
    ],
)
def test_an_engines_fields_are_named_as_those_of_the_response(field: str, asked: str) -> None:
    assert DIALECT.translate({"model": "m", "input": "hi"}, Arrival(1.0, TOKEN)).asked_field(field) == asked


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["type", "role", "content", "id", "text", "output", "call_id", "name"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=8,
    )
)
def test_odd_input_is_refused_with_a_sentence_or_taken(odd: Any) -> None:
    for field in ("input", "tools", "tool_choice", "text", "reasoning", "metadata", "include", "stream_options"):
        request = {"model": "m", "input": "hi"} | {field: odd}
        try:
            DIALECT.needs(request)
            DIALECT.translate(
                {name: value for name, value in request.items() if value is not None}, Arrival(1.0, TOKEN)
            )
        except InvalidRequest as exc:
            assert exc.param is not None
