"""An engine gets the same members of a body that the gateway decided on, and all others unchanged."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.edge.http_message import JsonBody
from gateway.errors import InvalidRequest
from gateway.routing.paths import HOT_PATHS, PathKind

CHAT = HOT_PATHS[b"/v1/chat/completions"]
EMBEDDINGS = HOT_PATHS[b"/v1/embeddings"]

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
bodies = st.dictionaries(st.text(max_size=8) | st.sampled_from(["messages", "stream", "user"]), values, max_size=6)


def sent(raw: bytes, *, ask: bool = False, **address: str) -> bytes:
    return JsonBody(raw, CHAT).for_engine(address, ask_for_usage=ask)


@given(bodies, st.booleans())
def test_only_the_name_of_the_model_changes(body: dict[str, Any], is_ascii: bool) -> None:
    body = {name: value for name, value in body.items() if name not in ("lora_path", "model")}
    raw = json.dumps({**body, "model": "support"}, ensure_ascii=is_ascii).encode("utf-8", "surrogatepass")
    sent_on = {name: value for name, value in body.items() if value is not None and name != "messages"}
    received = json.loads(sent(raw, model="support@7"))
    received.pop("messages", None)  # another test's
    assert received == {**sent_on, "model": "support@7"}


@given(
    st.text(alphabet=" \t\n\r", max_size=3), st.sampled_from(["1e400", "1.50", "-0", "123456789012345678901234567890"])
)
def test_values_go_on_byte_for_byte(space: str, number: str) -> None:
    value = f'{{"a":{space}[1,{space}{number}, "\\u00e4\\/"]}}'
    raw = f'{space}{{"messages"{space}:{value},{space}"model":"x"}}{space}'.encode()
    assert sent(raw, model="y") == f'{{"messages":{value},"model":"y"}}'.encode()


@given(
    st.binary(max_size=60)
    | bodies.map(json.dumps).map(str.encode).flatmap(lambda raw: st.integers(0, len(raw)).map(lambda cut: raw[:cut]))
)
def test_what_python_does_not_read_as_json_reaches_no_engine(raw: bytes) -> None:
    try:
        known = json.loads(raw, parse_constant=pytest.fail)
    except (ValueError, RecursionError):
        known = None
    except pytest.fail.Exception:
        known = None
    if not isinstance(known, dict) or not isinstance(known.get("model"), str):
        with pytest.raises(InvalidRequest):
            JsonBody(raw, CHAT)


def test_of_a_member_that_is_given_twice_one_goes_on_and_it_is_judged_on() -> None:
    raw = b'{"model": "mine", "stream": true, "mod\\u0065l": "theirs", "stream": false}'
    body = JsonBody(raw, CHAT)
    assert (body.model, body.is_streamed) == ("theirs", False)
    assert body.for_engine({"model": "theirs@1"}, ask_for_usage=False) == b'{"model":"theirs@1","stream":false}'


@pytest.mark.parametrize(
    "raw",
    [
        b'{"model": "tiny", "lora_path": "another@1"}',
        b'{"model": "tiny", "lora_p\\u0061th": "another@1"}',
    ],
)
def test_weights_are_named_by_model_alone(raw: bytes) -> None:
    with pytest.raises(InvalidRequest, match="lora_path"):
        JsonBody(raw, CHAT)


@pytest.mark.parametrize("raw", [b"{}", b'{"model": 3}', b'{"model": ""}', b'{"model": null}'])
def test_a_body_that_names_no_model_says_so(raw: bytes) -> None:
    with pytest.raises(InvalidRequest, match="model must be"):
        JsonBody(raw, CHAT)


@pytest.mark.parametrize(
    ("raw", "words"),
    [(b'{"model":"\xff"}', "byte 10 cannot be decoded"), (b'{"a":' + b"[" * 9999, "nested too deeply")],
)
def test_what_is_no_json_is_said_without_words_of_python(raw: bytes, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        JsonBody(raw, CHAT)


def test_a_body_that_is_deeper_than_anybody_reads_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="not JSON"):
        JsonBody(b'{"model":"x","a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", CHAT)


@pytest.mark.parametrize(
    ("options", "after"),
    [
        ("", {"include_usage": True}),
        (', "stream_options": null', {"include_usage": True}),
        (', "stream_options": {"include_usage": false, "x": 1}', {"include_usage": True, "x": 1}),
    ],
)
def test_an_engine_is_asked_for_usage_besides_what_the_client_wants(options: str, after: dict[str, Any]) -> None:
    raw = f'{{"model": "x", "stream": true{options}}}'.encode()
    assert not JsonBody(raw, CHAT).wants_usage
    assert json.loads(sent(raw, ask=True, model="x"))["stream_options"] == after
    assert JsonBody(sent(raw, ask=True, model="x"), CHAT).wants_usage


def test_only_where_a_path_can_stream_is_a_stream_asked_for() -> None:
    raw = b'{"model": "x", "stream": true}'
    assert JsonBody(raw, CHAT).is_streamed
    assert not JsonBody(raw, EMBEDDINGS).is_streamed


def asked(fields: str, kind: PathKind = CHAT) -> Any:
    raw = f'{{"model": "x"{fields}}}'.encode()
    body = json.loads(JsonBody(raw, kind).for_engine({}, ask_for_usage=False))
    del body["model"]
    return body


@pytest.mark.parametrize("kind", HOT_PATHS.values(), ids=lambda kind: kind.path)
def test_a_null_reaches_no_engine(kind: PathKind) -> None:
    if not kind.is_multipart:
        assert asked(', "stream": null, "user": null, "lora_path" : null , "input": "null"', kind) == {"input": "null"}


def test_a_null_in_a_message_is_absent_but_for_its_content_and_what_belongs_to_tools() -> None:
    call = {"id": "c", "index": None, "function": {"name": "f", "arguments": {"x": None}}}
    message = {"role": "assistant", "content": None, "name": None, "audio": None, "tool_calls": [call]}
    parts = {"role": "user", "content": [{"type": "text", "text": "null", "cache_control": None}, None]}
    fields = f', "messages": {json.dumps([message, parts])}'
    assert asked(fields)["messages"] == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": {"x": None}}}],
        },
        {"role": "user", "content": [{"type": "text", "text": "null"}, None]},
    ]
    schema = ', "tools": [{"function": {"parameters": {"enum": ["a", null], "default": null}}}]'
    assert asked(schema)["tools"][0]["function"]["parameters"] == {"enum": ["a", None], "default": None}


@pytest.mark.parametrize("messages", ['[{"name": null, "x": 1e999}]', '"null"'])
def test_messages_that_cannot_be_read_are_the_engines_to_refuse(messages: str) -> None:
    raw = f'{{"model":"x","messages":{messages}}}'.encode()
    assert JsonBody(raw, CHAT).for_engine({}, ask_for_usage=False) == raw


@pytest.mark.parametrize(
    ("fields", "after"),
    [
        (', "best_of": 1, "suffix": "", "stop": "", "tools": [ ], "logit_bias": {}', {}),
        (', "best_of": 1, "n": 1', {"n": 1}),
        (', "best_of": 1, "n": 2', {"n": 2, "best_of": 1}),
        (', "best_of": 2, "suffix": "x", "stop": ["a"]', {"best_of": 2, "suffix": "x", "stop": ["a"]}),
        (', "tools": [], "tool_choice": "auto", "parallel_tool_calls": true', {}),
        (', "tool_choice": "none"', {}),
        (', "tool_choice": "required"', {"tool_choice": "required"}),
        (', "tools": [1], "tool_choice": "auto"', {"tools": [1], "tool_choice": "auto"}),
        (', "top_p": 0.0', {"top_p": 1e-6}),
        (', "top_p": 0.5', {"top_p": 0.5}),
        (', "top_p": false', {"top_p": False}),
    ],
)
def test_what_asks_for_nothing_reaches_no_engine(fields: str, after: dict[str, Any]) -> None:
    assert asked(fields) == after
    assert asked(fields, HOT_PATHS[b"/v1/completions"]) == after


def test_other_paths_keep_what_chats_would_not_need() -> None:
    assert asked(', "tools": [], "top_p": 0', HOT_PATHS[b"/v1/embeddings"]) == {"tools": [], "top_p": 0}


def test_requests_that_begin_alike_have_the_same_prefix() -> None:
    def prefix(text: str) -> bytes:
        return JsonBody(
            json.dumps({"temperature": len(text), "model": "x", "messages": [text]}).encode(), CHAT
        ).prefix()

    assert prefix("a" * 600 + "b") == prefix("a" * 600 + "c")
    assert prefix("a" * 100 + "b") != prefix("a" * 100 + "c")


def test_a_byte_order_mark_before_json_is_passed_over() -> None:
    raw = json.dumps({"model": "support", "messages": []}).encode("utf-8-sig")
    assert json.loads(sent(raw, model="support@7")) == {"model": "support@7", "messages": []}


def test_text_that_is_not_utf_8_is_named_as_that() -> None:
    with pytest.raises(InvalidRequest, match="not JSON in UTF-8: byte 0 "):
        JsonBody(json.dumps({"model": "support"}).encode("utf-16"), CHAT)
