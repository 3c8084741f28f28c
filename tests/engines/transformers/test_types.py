"""Request bodies in OpenAI's format are accepted, and other fields are refused by name."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from engines.transformers.errors import BadRequest
from engines.transformers.types import ChatRequest, CompletionRequest, parse_body

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"temperature": 2.5}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"n": 0}, "n"),
        ({"n": True}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": -1}, "max_completion_tokens"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"stop": ""}, "stop"),
        ({"presence_penalty": 3}, "presence_penalty"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"tools": []}, "tools"),
        ({"response_format": {"type": "json_schema"}}, "response_format.type"),
        ({"stream_options": {"usage": True}}, "stream_options.usage"),
        ({"messages": []}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": [{"role": "robot", "content": "hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"model": None}, "model"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_body(ChatRequest, orjson.dumps(CHAT | change))
    assert caught.value.param == param
    assert caught.value.body["error"].keys() == {"message", "type", "param", "code"}


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff"])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest):
        parse_body(ChatRequest, body)


def test_harmless_and_null_fields_are_taken() -> None:
    extra = {"user": "me", "metadata": {"a": "b"}, "store": False, "service_tier": "auto", "tools": None, "stop": None}
    assert parse_body(ChatRequest, orjson.dumps(CHAT | extra)).stops == []


@pytest.mark.parametrize("content", ["Answer in JSON.", [{"type": "text", "text": "as json"}]])
def test_json_may_be_wished_for_where_the_messages_say_so(content: Any) -> None:
    wish = {"messages": [{"role": "user", "content": content}], "response_format": {"type": "json_object"}}
    parse_body(ChatRequest, orjson.dumps(CHAT | wish)).check_json_is_asked_for()


def test_json_that_the_model_would_not_hear_of_is_refused() -> None:
    request = parse_body(ChatRequest, orjson.dumps(CHAT | {"response_format": {"type": "json_object"}}))
    with pytest.raises(BadRequest) as caught:
        request.check_json_is_asked_for()
    assert caught.value.param == "messages"


def test_free_text_asks_for_nothing() -> None:
    parse_body(ChatRequest, orjson.dumps(CHAT | {"response_format": {"type": "text"}})).check_json_is_asked_for()


def test_text_parts_become_one_text_and_developers_speak_as_the_system() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    request = parse_body(
        ChatRequest, orjson.dumps({"model": "m", "messages": [{"role": "developer", "content": parts}]})
    )
    assert request.messages[0].as_template_input() == {"role": "system", "content": "ab"}


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [("a", ["a"]), (["a", "b"], ["a", "b"]), ([1, 2], [[1, 2]]), ([[1], [2, 3]], [[1], [2, 3]])],
)
def test_prompts_are_texts_or_tokens_one_or_many(prompt: Any, expected: list[Any]) -> None:
    assert parse_body(CompletionRequest, orjson.dumps({"model": "m", "prompt": prompt})).prompts == expected
