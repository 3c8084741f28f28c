"""A chat's answer is a response, whole or as a stream of events."""

from __future__ import annotations

from typing import Any, Final

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.gateway.dialects.responses.response_form import (
    ITEM,
    TOKEN,
    USAGE,
    WEATHER,
    begun,
    delta,
    events,
    message,
    read_events,
    whole,
)


def test_a_response_repeats_its_request_and_has_the_exact_usage() -> None:
    usage = {"prompt_tokens_details": {"cached_tokens": 4}, "completion_tokens_details": {"reasoning_tokens": 2}}
    answer = message({"content": "yes"}) | {"usage": USAGE | usage}
    found = whole(
        answer, metadata={"a": "b"}, tools=[WEATHER], instructions="be brief", max_output_tokens=3, store=True
    )
    assert (found["id"], found["model"], found["status"]) == (f"resp_{TOKEN}", "m@1", "completed")
    assert (found["metadata"], found["instructions"], found["max_output_tokens"]) == ({"a": "b"}, "be brief", 3)
    assert found["output"][0]["content"][0]["text"] == "yes"
    assert found["usage"] == {
        "input_tokens": 7,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
        "output_tokens": 3,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 10,
    }


@pytest.mark.parametrize(("finish", "reason"), [("length", "max_output_tokens"), ("content_filter", "content_filter")])
def test_an_answer_that_was_cut_short_is_incomplete(finish: str, reason: str) -> None:
    found = whole(message({"content": "ye"}, finish))
    assert (found["status"], found["incomplete_details"]) == ("incomplete", {"reason": reason})
    assert found["output"][0]["status"] == "incomplete"
    assert found["completed_at"] is None


def test_an_answer_that_the_engine_gave_up_has_failed_and_is_not_kept() -> None:
    translator = begun()
    translator.whole(message({"content": "ye"}, "abort"))
    assert translator.to_keep(2.0) is None
    found = orjson.loads(translator.end(is_kept=False))
    assert (found["status"], found["error"]["code"]) == ("failed", "server_error")


def test_a_stream_has_the_full_sequence_of_events() -> None:
    found = events(
        [
            delta(role="assistant", content=""),
            delta(content="he"),
            delta(content="llo"),
            delta("stop"),
            {"choices": [], "usage": USAGE},
        ]
    )
    assert [each["type"].removeprefix("response.") for each in found] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert found[0]["response"]["output"] == found[2]["item"]["content"] == []
    assert found[-1]["response"]["output"] == [found[-2]["item"]]
    assert found[-1]["response"]["usage"]["total_tokens"] == 10


def test_a_call_is_streamed_by_its_arguments_and_blanks_before_it_are_no_message() -> None:
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}}
    found = events(
        [
            delta(reasoning_content="hm"),
            delta(content="\n\n"),
            delta(tool_calls=[call]),
            delta(tool_calls=[{"index": 0, "function": {"arguments": '{"at"'}}]),
            delta(tool_calls=[{"index": 0, "function": {"arguments": ": 1}"}}]),
            delta("tool_calls"),
        ],
        tools=[WEATHER],
    )
    assert [each["type"].removeprefix("response.") for each in found][2:] == [
        "output_item.added",
        "content_part.added",
        "reasoning_text.delta",
        "reasoning_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    assert found[-1]["response"]["output"][1] == {
        "id": f"fc_{TOKEN}_1",
        "type": "function_call",
        "call_id": "call_1",
        "name": "weather",
        "arguments": '{"at": 1}',
        "status": "completed",
    }


def test_a_stream_that_breaks_off_ends_with_an_error_and_the_failed_response() -> None:
    translator = begun(stream=True)
    sent = translator.chunk(delta(content="hel"))
    sent += translator.broke({"error": {"message": "the replica failed", "code": "engine_unavailable", "param": None}})
    *_, item, error, last = read_events(sent)
    assert (item["type"], item["item"]["status"]) == ("response.output_item.done", "incomplete")
    assert (error["type"], error["code"]) == ("error", "engine_unavailable")
    assert last["type"] == "response.failed"
    assert last["response"]["output"][0]["content"][0]["text"] == "hel"


def test_a_stream_without_an_end_is_not_an_answer() -> None:
    translator = begun(stream=True)
    translator.chunk(delta(content="hel"))
    with pytest.raises(ValueError, match="ended without"):
        translator.to_keep(2.0)


PIECES: Final = st.lists(st.sampled_from(["a", " ", "é", "\n", "x y"]), max_size=4)
CALLS: Final = st.lists(PIECES.map(tuple), max_size=3)


@pytest.mark.long
@given(reasoning=PIECES, text=PIECES, calls=CALLS, finish=st.sampled_from(["stop", "length"]))
def test_a_stream_ends_in_the_response_that_the_whole_answer_is(
    reasoning: list[str], text: list[str], calls: list[tuple[str, ...]], finish: str
) -> None:
    def logprobs(piece: str) -> dict[str, Any]:
        return {"content": [{"token": piece, "logprob": -1.0, "bytes": None, "top_logprobs": []}]}

    chunks = [delta(reasoning_content=piece) for piece in reasoning]
    chunks += [delta(content=piece, logprobs=logprobs(piece)) for piece in text]
    whole_calls = []
    for at, pieces in enumerate(calls):
        whole_calls.append({"id": f"c{at}", "function": {"name": "weather", "arguments": "".join(pieces)}})
        chunks.append(delta(tool_calls=[{"index": at, "id": f"c{at}", "function": {"name": "weather"}}]))
        chunks += [delta(tool_calls=[{"index": at, "function": {"arguments": piece}}]) for piece in pieces]
    chunks.append(delta(finish, usage=USAGE))
    answer = {"content": "".join(text), "reasoning_content": "".join(reasoning), "tool_calls": whole_calls}
    content = [each for piece in text for each in logprobs(piece)["content"]]
    streamed = events(chunks)
    assert streamed[-1]["response"] == whole(message(answer, finish, logprobs={"content": content}))
    deltas = [each["delta"] for each in streamed if each["type"] == "response.output_text.delta"]
    assert "".join(deltas) == "".join(
        part["text"]
        for item in streamed[-1]["response"]["output"]
        if item["type"] == "message"
        for part in item["content"]
    )


def test_input_items_are_listed_in_the_form_of_the_sdk() -> None:
    given = [
        {
            "role": "user",
            "content": [{"type": "input_text", "text": "a"}, {"type": "input_image", "image_url": "data:x"}],
        },
        {"role": "assistant", "content": "b"},
        {"type": "function_call", "call_id": "c", "name": "n", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "o"}]},
        {"type": "reasoning", "id": "rs_1", "summary": []},
    ]
    translator = begun(input=given)
    translator.whole(message({"content": "yes"}))
    kept = translator.to_keep(2.0)
    assert kept is not None
    for item in kept.input_items:
        ITEM.validate_json(orjson.dumps(item), strict=True)
    assert [item["id"].partition("_")[0] for item in kept.input_items] == ["msg", "msg", "fc", "fco", "rs"]
