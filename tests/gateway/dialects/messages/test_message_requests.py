"""A request of Anthropic's Messages as a chat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from gateway.dialects.messages.fields import asked_field
from gateway.dialects.messages.request import asked_count, asked_message
from gateway.errors import InvalidRequest

Json = dict[str, Any]
WEATHER: Json = {"name": "weather", "description": "The weather.", "input_schema": {"type": "object"}}
CALL: Json = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Paris"}}


def request(**members: Any) -> Json:
    return {"model": "m", "max_tokens": 8, "messages": [{"role": "user", "content": "Hi"}], **members}


def chat(**members: Any) -> Json:
    return asked_message(request(**members)).chat


def said(*messages: Mapping[str, Any], **members: Any) -> list[Json]:
    found: list[Json] = chat(messages=list(messages), **members)["messages"]
    return found


def user(*blocks: Any) -> Json:
    return {"role": "user", "content": list(blocks)}


def text(words: str, **members: Any) -> Json:
    return {"type": "text", "text": words, **members}


def test_the_plainest_request_is_the_plainest_chat() -> None:
    assert chat() == {"model": "m", "max_tokens": 8, "messages": [{"role": "user", "content": "Hi"}]}


def test_sampling_keeps_its_values_and_stop_sequences_become_stops() -> None:
    found = chat(temperature=0.5, top_p=0.9, top_k=40, stop_sequences=["END", "\n\nHuman:"])
    assert (found["temperature"], found["top_p"], found["top_k"]) == (0.5, 0.9, 40)
    assert found["stop"] == ["END", "\n\nHuman:"]
    assert "top_k" not in chat(top_k=0)


def test_a_stream_asks_for_its_usage_from_the_first_chunk_on() -> None:
    found = chat(stream=True)
    assert found["stream"] is True
    assert found["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}
    assert "stream" not in chat(stream=False)


def test_the_system_prompt_comes_first_without_what_changes_in_each_request_of_claude_code() -> None:
    system = [
        text("x-anthropic-billing-header: cc_version=2.1; cch=0a1b2;"),
        text("You are a clerk.", cache_control={"type": "ephemeral"}),
        text("Be brief."),
    ]
    assert said({"role": "user", "content": "Hi"}, system=system)[0] == {
        "role": "system",
        "content": "You are a clerk.\nBe brief.",
    }
    assert said({"role": "user", "content": "Hi"}, system="S")[0] == {"role": "system", "content": "S"}


def test_a_system_message_further_on_joins_the_system_prompt() -> None:
    messages = said(
        {"role": "user", "content": "Hi"}, {"role": "system", "content": "Be brief."}, user(text("Go on")), system="S"
    )
    assert messages == [{"role": "system", "content": "S\nBe brief."}, {"role": "user", "content": "Hi\nGo on"}]


def test_messages_of_one_role_that_follow_each_other_are_one_turn() -> None:
    messages = said(
        user(text("a"), text("b")),
        {"role": "assistant", "content": "c"},
        {"role": "assistant", "content": [text("d"), CALL]},
        user({"type": "tool_result", "tool_use_id": "toolu_1", "content": "Sunny"}),
    )
    assert messages[0] == {"role": "user", "content": "a\nb"}
    assert messages[1]["content"] == "cd"
    assert messages[1]["tool_calls"] == [
        {"id": "toolu_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Paris"}'}}
    ]
    assert messages[2] == {"role": "tool", "tool_call_id": "toolu_1", "name": "weather", "content": "Sunny"}
    assert len(messages) == 3


def test_results_come_before_the_text_of_their_message_and_tell_an_error() -> None:
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "is_error": True, "content": [text("No"), text("city")]}
    messages = said(
        {"role": "user", "content": "?"}, {"role": "assistant", "content": [CALL]}, user(text("So?"), result)
    )
    assert messages[2:] == [
        {"role": "tool", "tool_call_id": "toolu_1", "name": "weather", "content": "Error: No\ncity"},
        {"role": "user", "content": "So?"},
    ]


def test_images_are_parts_and_those_of_a_result_follow_the_results() -> None:
    data = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}}
    web = {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}
    parts = said(user(text("What is this?"), data, web))[0]["content"]
    assert parts == [
        text("What is this?"),
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
    ]
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [data]}
    messages = said({"role": "user", "content": "?"}, {"role": "assistant", "content": [CALL]}, user(result))
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "user"]


def test_thoughts_of_earlier_turns_are_passed_over() -> None:
    thoughts = [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "redacted_thinking", "data": "xx"},
        text("4"),
    ]
    messages = said({"role": "user", "content": "2+2"}, {"role": "assistant", "content": thoughts}, user(text("Why?")))
    assert messages[1] == {"role": "assistant", "content": "4"}


def test_tools_become_functions_with_their_examples_in_the_description() -> None:
    tool = {**WEATHER, "strict": True, "input_examples": [{"city": "Rome"}], "cache_control": {"type": "ephemeral"}}
    function = chat(tools=[tool])["tools"][0]["function"]
    assert function == {
        "name": "weather",
        "parameters": {"type": "object"},
        "description": 'The weather.\n\nExamples of its input:\n{"city":"Rome"}',
        "strict": True,
    }


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"type": "auto"}, {"tool_choice": "auto"}),
        ({"type": "any"}, {"tool_choice": "required"}),
        ({"type": "tool", "name": "weather"}, {"tool_choice": {"type": "function", "function": {"name": "weather"}}}),
        ({"type": "auto", "disable_parallel_tool_use": True}, {"tool_choice": "auto", "parallel_tool_calls": False}),
    ],
)
def test_a_choice_of_tools_has_its_name_in_a_chat(choice: Json, expected: Json) -> None:
    found = chat(tools=[WEATHER], tool_choice=choice)
    assert {name: found[name] for name in found if name in ("tool_choice", "parallel_tool_calls")} == expected


def test_tools_that_must_not_be_called_are_not_shown_to_the_model() -> None:
    assert not {"tools", "tool_choice"} & chat(tools=[WEATHER], tool_choice={"type": "none"}).keys()


def test_a_schema_is_enforced_by_either_of_its_names() -> None:
    wanted = {"type": "json_schema", "schema": {"type": "object"}}
    expected = {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": {"type": "object"}, "strict": True},
    }
    assert chat(output_config={"format": wanted, "effort": "max"})["response_format"] == expected
    assert chat(output_format=wanted)["response_format"] == expected
    assert chat(output_config={"effort": "max"})["reasoning_effort"] == "high"


def test_thinking_reaches_the_chat_template() -> None:
    assert "chat_template_kwargs" not in chat()
    assert chat(thinking={"type": "disabled"})["chat_template_kwargs"] == {"enable_thinking": False, "thinking": False}
    enabled = {"type": "enabled", "budget_tokens": 1024}
    assert chat(thinking=enabled)["chat_template_kwargs"]["enable_thinking"] is True


def test_what_claude_code_sends_is_taken() -> None:
    found = chat(
        metadata={"user_id": "user_1_session_2"},
        system=[text("You are Claude Code.", cache_control={"type": "ephemeral", "ttl": "1h"})],
        tools=[{**WEATHER, "eager_input_streaming": True, "defer_loading": False, "allowed_callers": ["direct"]}],
        thinking={"type": "adaptive"},
        context_management={"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        output_config={"effort": "medium"},
        service_tier="auto",
        cache_control={"type": "ephemeral"},
        diagnostics={"previous_message_id": None},
        container=None,
        mcp_servers=[],
        stream=True,
    )
    assert found["user"] == "user_1_session_2"


WRONG: tuple[tuple[Json, str, str], ...] = (
    ({"max_tokens": None}, "max_tokens", "is required"),
    ({"max_tokens": 0}, "max_tokens", "from 1 on, not 0"),
    ({"max_tokens": True}, "max_tokens", "not true"),
    ({"max_tokens": 1.5}, "max_tokens", "not 1.5"),
    ({"max_tokens": 10**400}, "max_tokens", "not a large number"),
    ({"temperature": 2.5}, "temperature", "from 0 to 2, not 2.5"),
    ({"top_p": "high"}, "top_p", 'not "high"'),
    ({"top_k": -1}, "top_k", "from 0 on"),
    ({"stop_sequences": ["a", ""]}, "stop_sequences[1]", "not empty"),
    ({"stop_sequences": "a"}, "stop_sequences", 'must be an array, not "a"'),
    ({"stream": "yes"}, "stream", "true or false"),
    ({"messages": []}, "messages", "at least one"),
    ({"messages": "Hi"}, "messages", 'must be an array, not "Hi"'),
    ({"messages": ["Hi"]}, "messages[0]", "must be an object"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role", '"user" or "assistant"'),
    ({"messages": [{"content": "x"}]}, "messages[0].role", "is required"),
    ({"messages": [{"role": "user"}]}, "messages[0].content", "is required"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "a string or an array"),
    ({"messages": [user("x")]}, "messages[0].content[0]", "must be an object"),
    ({"messages": [user({"text": "x"})]}, "messages[0].content[0].type", "is required"),
    ({"messages": [user({"type": "text"})]}, "messages[0].content[0].text", "is required"),
    ({"messages": [user({"type": "document", "source": {}})]}, "messages[0].content[0].type", "documents are not"),
    ({"messages": [user({"type": "server_tool_use"})]}, "messages[0].content[0].type", "takes"),
    ({"messages": [user({"type": "image"})]}, "messages[0].content[0].source", "is required"),
    (
        {"messages": [user({"type": "image", "source": {"type": "file", "file_id": "f"}})]},
        "messages[0].content[0].source.type",
        '"base64" or "url"',
    ),
    (
        {"messages": [user({"type": "tool_result", "tool_use_id": "t", "content": "x"})]},
        "messages[0].content[0].tool_use_id",
        "the id of a tool_use block before it",
    ),
    ({"messages": [{"role": "assistant", "content": "I"}]}, "messages", "must end with a message of the role user"),
    ({"messages": [{"role": "system", "content": "I"}]}, "messages", "must end with a message of the role user"),
    ({"system": [{"type": "image"}]}, "system[0].type", 'takes "text"'),
    ({"system": 5}, "system", "must be an array"),
    ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type", "web_search_20250305"),
    ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools[0].type", "custom tool"),
    ({"tools": [{"name": "a"}]}, "tools[0].input_schema", "is required"),
    ({"tools": [{**WEATHER, "parameters": {}}]}, "tools[0].parameters", "tools[0] takes"),
    ({"tools": [{**WEATHER, "defer_loading": True}]}, "tools[0].defer_loading", "must be false"),
    ({"tools": [WEATHER, WEATHER]}, "tools[1].name", "other than"),
    ({"tool_choice": {"type": "any"}}, "tool_choice", "without tools"),
    ({"tools": [WEATHER], "tool_choice": {"type": "tool", "name": "x"}}, "tool_choice.name", "one of tools"),
    ({"tools": [WEATHER], "tool_choice": "auto"}, "tool_choice", "must be an object"),
    ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens", "is required"),
    ({"thinking": {"type": "deep"}}, "thinking.type", '"disabled"'),
    ({"output_config": {"format": {"type": "text"}}}, "output_config.format.type", "json_schema"),
    ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema", "is required"),
    ({"container": "c_1"}, "container", "is not supported"),
    ({"mcp_servers": [{"type": "url"}]}, "mcp_servers", "MCP"),
    ({"thread": {"type": "create"}}, "thread", "the whole conversation"),
    ({"speed": "fast"}, "speed", "standard"),
    ({"service_tier": "gold"}, "service_tier", "auto"),
    ({"metadata": {"user_id": 5}}, "metadata.user_id", "must be a string"),
    (
        {"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}},
        "context_management.edits[0].type",
        "clear_thinking",
    ),
    ({"n": 2}, "n", "POST /v1/messages takes"),
    ({"max_tokens_to_sample": 5}, "max_tokens_to_sample", "is not supported"),
)


@pytest.mark.parametrize(("members", "field", "words"), WRONG, ids=[field for _, field, _ in WRONG])
def test_a_wrong_member_is_named_with_what_would_be_right(members: Json, field: str, words: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        chat(**members)
    assert caught.value.param == field
    assert str(caught.value).startswith(field)
    assert words in str(caught.value)


def test_a_count_tokenizes_the_same_conversation_with_its_tools() -> None:
    counted = asked_count(request(tools=[WEATHER], system="S", output_config={"effort": "low"})).tokenization
    assert counted["messages"] == said({"role": "user", "content": "Hi"}, system="S")
    assert counted["tools"] == chat(tools=[WEATHER])["tools"]
    assert counted["chat_template_kwargs"] == {"reasoning_effort": "low"}
    assert counted.keys() == {"model", "messages", "tools", "chat_template_kwargs"}
    bare = request()
    del bare["max_tokens"]
    assert asked_count(bare).tokenization.keys() == {"model", "messages"}


CONVERSATION = (
    {"role": "user", "content": "Hi"},
    user(text("a"), {"type": "image", "source": {"type": "url", "url": "http://a"}}),
    {"role": "assistant", "content": [text("x"), CALL]},
    user({"type": "tool_result", "tool_use_id": "toolu_1", "content": "Sunny"}, text("b")),
)


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("stop", "stop_sequences"),
        ("stop[2]", "stop_sequences[2]"),
        ("tools[2].function.parameters.properties", "tools[2].input_schema.properties"),
        ("tools[0].function.name", "tools[0].name"),
        ("response_format.json_schema", "output_config.format.json_schema"),
        ("temperature", "temperature"),
        ("messages", "messages"),
        ("messages[0].content", "system.content"),
        ("messages[1].content[2].type", "messages[1].content[1].type"),
        ("messages[1].content[0].text", "messages[0].content.text"),
        ("messages[2].tool_calls[0].function", "messages[2].content[1].function"),
        ("messages[3].content", "messages[3].content[0].content"),
        ("messages[4].content", "messages[3].content"),
        ("messages[9].content", "messages[9].content"),
    ],
)
def test_a_field_of_the_chat_is_the_client_s_field_that_it_was_made_from(field: str, expected: str) -> None:
    asked = asked_message(request(messages=list(CONVERSATION), system="S"))
    assert asked_field(field, asked.origins) == expected
