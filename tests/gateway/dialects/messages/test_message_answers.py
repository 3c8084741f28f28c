"""A chat's answer as a message, whole and streamed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dialects.messages.answer import MessageTranslator
from gateway.dialects.messages.count import CountTranslator
from gateway.dialects.messages.request import AskedMessage, asked_message

Json = dict[str, Any]


def asked(**members: Any) -> AskedMessage:
    return asked_message({"model": "m", "max_tokens": 8, "messages": [{"role": "user", "content": "Hi"}], **members})


def whole(message: Json, finish: str | None = "stop", usage: Json | None = None, **choice: Any) -> Json:
    choices = [{"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish, **choice}]
    return {"id": "chatcmpl-1", "model": "m@2", "choices": choices, "usage": usage}


def answered(answer: Json, **members: Any) -> Json:
    translator = MessageTranslator(asked(**members), "t")
    translator.whole(answer)
    found: Json = orjson.loads(translator.end(is_kept=False))
    return found


def chunk(delta: Json, finish: str | None = None, **choice: Any) -> Json:
    piece = {"index": 0, "delta": delta, "finish_reason": finish, **choice}
    return {"id": "chatcmpl-1", "model": "m@2", "choices": [piece], "usage": None}


def streamed(chunks: Sequence[Json], **members: Any) -> bytes:
    translator = MessageTranslator(asked(stream=True, **members), "t")
    return b"".join([*map(translator.chunk, chunks), translator.end(is_kept=False)])


def events(stream: bytes) -> list[Json]:
    found = []
    for each in stream.split(b"\n\n")[:-1]:
        name, data = each.split(b"\n")
        body = orjson.loads(data.removeprefix(b"data: "))
        assert name == b"event: " + body["type"].encode()
        found.append(body)
    return found


def read_as_clients_do(stream: bytes) -> Json:
    """Put the message together as Anthropic's SDKs do, from events in their one right order."""
    message: Json = {}
    arguments: dict[int, str] = {}
    opened: int | None = None
    for body in events(stream):
        match body["type"]:
            case "message_start":
                assert not message
                message = body["message"]
            case "content_block_start":
                assert opened is None
                opened = body["index"]
                assert opened == len(message["content"])
                message["content"].append(body["content_block"])
            case "content_block_delta":
                assert body["index"] == opened
                block, delta = message["content"][body["index"]], body["delta"]
                match delta["type"]:
                    case "input_json_delta":
                        arguments[body["index"]] = arguments.get(body["index"], "") + delta["partial_json"]
                    case "signature_delta":
                        block["signature"] = delta["signature"]
                    case _:
                        name = delta["type"].removesuffix("_delta")
                        block[name] += delta[name]
            case "content_block_stop":
                assert body["index"] == opened
                if opened in arguments:
                    message["content"][opened]["input"] = orjson.loads(arguments[opened])
                opened = None
            case "message_delta":
                assert opened is None
                message |= body["delta"]
                message["usage"] |= body["usage"]
    assert events(stream)[-1] == {"type": "message_stop"}
    return message


def test_text_becomes_a_block_with_the_reason_and_the_usage() -> None:
    usage = {"prompt_tokens": 20, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 16}}
    assert answered(whole({"content": "Paris."}, usage=usage)) == {
        "id": "msg_t",
        "type": "message",
        "role": "assistant",
        "model": "m@2",
        "content": [{"type": "text", "text": "Paris."}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 4,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 16,
            "output_tokens": 3,
        },
    }


def test_an_engine_that_reports_no_cache_leaves_its_counts_open() -> None:
    usage = answered(whole({"content": "a"}, usage={"prompt_tokens": 20, "completion_tokens": 3}))["usage"]
    assert usage == {
        "input_tokens": 20,
        "cache_creation_input_tokens": None,
        "cache_read_input_tokens": None,
        "output_tokens": 3,
    }


@pytest.mark.parametrize(
    ("finish", "choice", "expected"),
    [
        ("stop", {}, ("end_turn", None)),
        ("length", {}, ("max_tokens", None)),
        ("content_filter", {}, ("refusal", None)),
        ("stop", {"stop_reason": "END"}, ("stop_sequence", "END")),
        ("stop", {"matched_stop": "END"}, ("stop_sequence", "END")),
        ("stop", {"stop_reason": 151645}, ("end_turn", None)),
        ("stop", {"stop_reason": "not asked for"}, ("end_turn", None)),
    ],
)
def test_the_reason_to_stop_is_exact(finish: str, choice: Json, expected: tuple[str, str | None]) -> None:
    found = answered(whole({"content": "a"}, finish, **choice), stop_sequences=["END"])
    assert (found["stop_reason"], found["stop_sequence"]) == expected


@pytest.mark.parametrize("finish", [None, "abort", "error"])
def test_an_answer_that_broke_off_in_the_engine_is_no_message(finish: str | None) -> None:
    with pytest.raises(ValueError, match="reason"):
        answered(whole({"content": "a"}, finish))


@pytest.mark.parametrize("finish", ["tool_calls", "stop"])
def test_calls_become_blocks_with_parsed_input(finish: str) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a": [1]}'}}
    found = answered(whole({"content": None, "tool_calls": [call]}, finish))
    assert found["content"] == [{"type": "tool_use", "id": "call_1", "name": "f", "input": {"a": [1]}}]
    assert found["stop_reason"] == "tool_use"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [("", {}), ('{"a": 1, "b": "x', {"a": 1}), ("[1]", {"INVALID_JSON": "[1]"}), ("a(", {"INVALID_JSON": "a("})],
)
def test_arguments_that_are_no_object_are_not_lost(arguments: str, expected: Json) -> None:
    call = {"id": "call_1", "function": {"name": "f", "arguments": arguments}}
    assert answered(whole({"tool_calls": [call]}, "length"))["content"][0]["input"] == expected


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_thoughts_become_a_block_unless_thinking_is_disabled(name: str) -> None:
    message = {"content": "4", name: "2+2"}
    shown = answered(whole(message))["content"]
    assert [block["type"] for block in shown] == ["thinking", "text"]
    assert shown[0]["thinking"] == "2+2"
    assert answered(whole(message), thinking={"type": "disabled"})["content"] == [{"type": "text", "text": "4"}]
    omitted = answered(whole(message), thinking={"type": "adaptive", "display": "omitted"})["content"]
    assert omitted[0]["thinking"] == ""


def test_the_first_event_has_the_tokens_of_the_prompt_where_the_engine_sends_them() -> None:
    first = chunk({"role": "assistant", "content": ""})
    first["usage"] = {"prompt_tokens": 7, "completion_tokens": 0}
    last = {"model": "m@2", "choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2}}
    found = events(streamed([first, chunk({"content": "Hi"}), chunk({}, "stop"), last]))
    assert [body["type"] for body in found] == [
        "message_start",
        "ping",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert found[0]["message"]["usage"]["input_tokens"] == 7
    assert found[5]["usage"]["output_tokens"] == 2


def test_the_first_event_waits_for_the_first_piece_which_may_bring_the_tokens_of_the_prompt() -> None:
    role, piece = chunk({"role": "assistant", "content": ""}), chunk({"content": "Hi"})
    piece["usage"] = {"prompt_tokens": 7, "completion_tokens": 1}
    found = events(streamed([role, piece, chunk({}, "stop")]))
    assert found[0]["message"]["usage"]["input_tokens"] == 7
    without = events(streamed([role, chunk({"content": "Hi"}), chunk({}, "stop")]))
    assert without[0]["message"]["usage"]["input_tokens"] == 0


def test_a_stream_that_breaks_off_ends_with_an_error_event_and_nothing_after_it() -> None:
    translator = MessageTranslator(asked(stream=True), "t")
    translator.chunk(chunk({"content": "Hi"}))
    failure = {"error": {"message": "the engine failed", "code": "internal_error"}}
    assert events(translator.chunk(failure))[0]["error"]["type"] == "api_error"
    assert translator.chunk(chunk({"content": "!"})) == translator.end(is_kept=False) == b""
    cut = MessageTranslator(asked(stream=True), "t")
    cut.chunk(chunk({"content": "Hi"}))
    assert events(cut.end(is_kept=False))[0]["type"] == "error"


def test_a_count_is_the_tokenization_s() -> None:
    translator = CountTranslator("t")
    translator.whole({"count": 3, "tokens": [1, 2, 3], "max_model_len": 64})
    assert translator.end(is_kept=False) == b'{"input_tokens":3}'


VALUES = st.dictionaries(st.text(max_size=4), st.integers(0, 99) | st.text(max_size=6), max_size=3)
CALLS = st.lists(st.tuples(st.sampled_from(["weather", "search"]), VALUES), max_size=3)


@st.composite
def cuts(draw: st.DrawFn, text: str) -> list[str]:
    """Return *text* in pieces, cut anywhere."""
    places = sorted(draw(st.lists(st.integers(0, len(text)), max_size=4)))
    return [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)]


@settings(max_examples=40)
@given(st.data(), st.text(max_size=20), st.text(max_size=30), CALLS, st.sampled_from(["stop", "length"]))
def test_a_stream_cut_anywhere_gives_the_same_message_as_the_whole_answer(
    data: st.DataObject, thoughts: str, said: str, calls: list[tuple[str, Json]], finish: str
) -> None:
    made = [
        {
            "id": f"call_{place}",
            "type": "function",
            "function": {"name": name, "arguments": orjson.dumps(each).decode()},
        }
        for place, (name, each) in enumerate(calls)
    ]
    usage = {"prompt_tokens": 9, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4}}
    answer = whole({"content": said, "reasoning_content": thoughts, "tool_calls": made}, finish, usage)
    chunks = [chunk({"role": "assistant", "content": ""})]
    chunks += [chunk({"reasoning_content": piece}) for piece in data.draw(cuts(thoughts))]
    chunks += [chunk({"content": piece}) for piece in data.draw(cuts(said))]
    for place, call in enumerate(made):
        function: Any = call["function"]
        first, *rest = data.draw(cuts(function["arguments"]))
        begun = {"index": place, "id": call["id"], "function": {"name": function["name"], "arguments": first}}
        chunks.append(chunk({"tool_calls": [begun]}))
        chunks += [chunk({"tool_calls": [{"index": place, "function": {"arguments": piece}}]}) for piece in rest]
    chunks += [chunk({}, finish), {"model": "m@2", "choices": [], "usage": usage}]
    assert read_as_clients_do(streamed(chunks)) == answered(answer)
