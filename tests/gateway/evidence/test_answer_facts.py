"""The counts of an answer do not depend on how its bytes are cut, and counting never disturbs the relay."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.evidence.answer_facts import AnswerFacts, Asked, StreamReading, WholeReading
from gateway.evidence.sse import EventReader
from registry.rollouts.tally import ErrorKind, Tally, bucket_of

TEXT = Asked()
JSON = Asked(json_format="json_object")
ANY_SPEED = settings(deadline=None)
NAMES = ["choices", "delta", "message", "usage", "tool_calls", "function", "arguments", "index", "content", "text"]
ANY_JSON = st.recursive(
    st.none() | st.integers(0, 3) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner),
)
LINE_ENDS = st.sampled_from(["\n", "\r\n", "\r"])


def event(*choices: dict[str, Any], **fields: Any) -> bytes:
    return b"data: " + orjson.dumps({"id": "chatcmpl-1", "choices": list(choices), **fields}) + b"\n\n"


def delta(content: str | None = None, index: int = 0, finish: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"index": index, "delta": {"content": content, **fields}, "finish_reason": finish}


def streamed(*parts: bytes, asked: Asked = TEXT, times: Iterable[float] | None = None) -> AnswerFacts:
    """The facts of a stream whose parts came at *times*, one second after another."""
    reading = StreamReading(asked)
    for part, at in zip(parts, times or range(1, 1 + len(parts)), strict=True):
        reading.add_chunk(part, at)
        reading.read()
    return reading.result(began=0.0)


def whole(body: bytes, asked: Asked = TEXT) -> AnswerFacts:
    reading = WholeReading(asked)
    reading.add_chunk(body, 2.0)
    return reading.result(began=0.0)


def message(content: str | None, finish: str = "stop", **fields: Any) -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": content, **fields}, "finish_reason": finish}


def answer_body(*choices: dict[str, Any], tokens: int = 4) -> bytes:
    return orjson.dumps({"id": "chatcmpl-1", "choices": list(choices), "usage": {"completion_tokens": tokens}})


STREAM = b"".join(
    [
        b": keep-alive\n\n",
        event(delta("", role="assistant")),
        event(delta('{"a": ')),
        event(delta("1}", finish="stop")),
        event(delta(tool_calls=[{"index": 0, "function": {"name": "f", "arguments": '{"x"'}}], index=1)),
        event(delta(tool_calls=[{"index": 0, "function": {"arguments": ": ü}"}}], index=1, finish="length")),
        event(usage={"completion_tokens": 12}),
        b"data: [DONE]\n\n",
    ]
)


@ANY_SPEED
@given(st.sets(st.integers(0, len(STREAM))))
def test_any_cut_of_the_bytes_gives_the_same_counts(cuts: set[int]) -> None:
    edges = sorted({0, len(STREAM), *cuts})
    parts = [STREAM[start:end] for start, end in pairwise(edges)]
    facts = streamed(*parts, asked=JSON, times=[1.0] * len(parts))
    assert facts == streamed(STREAM, asked=JSON, times=[1.0])
    expected = Tally(
        requests=1, answers=2, length_finishes=1, json_asked=1, tool_calls=1, tool_calls_invalid=1, output_tokens=12
    )
    assert facts.tally.plus(Tally()) == expected.plus(Tally(ttft=facts.tally.ttft, tpot=facts.tally.tpot))


@ANY_SPEED
@given(
    st.lists(st.tuples(st.lists(st.text(alphabet="ab:\u00fc ", max_size=5), min_size=1, max_size=3), LINE_ENDS)),
    st.data(),
)
def test_every_event_is_found_once_whatever_ends_its_lines(
    events: list[tuple[list[str], str]], data: st.DataObject
) -> None:
    sent = "".join("".join(f"data: {line}{end}" for line in lines) + f"id: 7{end}{end}" for lines, end in events)
    stream = (sent + ":\n").encode()
    cuts = data.draw(st.sets(st.integers(0, len(stream))))
    reader = EventReader()
    found = [one for start, end in pairwise(sorted({0, len(stream), *cuts})) for one in reader.feed(stream[start:end])]
    assert found == ["\n".join(lines).encode() for lines, _ in events]


@ANY_SPEED
@given(st.binary())
def test_no_bytes_make_the_reading_fail(noise: bytes) -> None:
    for parts in ([noise], [b"data: " + noise + b"\n\n"], [STREAM, noise]):
        streamed(*parts)
    whole(noise)


@ANY_SPEED
@given(ANY_JSON)
def test_no_json_makes_the_reading_fail(value: Any) -> None:
    body = orjson.dumps({"choices": [value, {"message": {"content": "hi"}, "finish_reason": "stop"}]})
    for sent in (body, orjson.dumps(value)):
        streamed(b"data: " + sent + b"\n\n", asked=JSON)
        assert whole(sent, JSON).tally.requests == 1


def test_times_and_tokens_of_a_stream_are_those_of_its_output() -> None:
    parts = [event(delta("", role="assistant")), event(delta("a")), event(delta("b")), event(delta("c", finish="stop"))]
    tally = streamed(*parts, times=[1.0, 2.0, 2.5, 3.0]).tally
    assert (tally.output_tokens, tally.ttft, tally.tpot) == (3, {bucket_of(2.0): 1}, {bucket_of(0.5): 1})
    counted = streamed(*parts, event(usage={"completion_tokens": 5}), times=[1.0, 2.0, 2.5, 3.0, 3.0]).tally
    assert (counted.output_tokens, counted.tpot) == (5, {bucket_of(0.25): 1})


@pytest.mark.parametrize(("cached", "is_cached"), [(None, False), (0, False), (24, False), (25, True), (50, True)])
def test_an_answer_half_of_whose_prompt_was_in_the_cache_has_its_times_counted_apart(
    cached: int | None, is_cached: bool
) -> None:
    details = None if cached is None else {"cached_tokens": cached}
    usage = {"prompt_tokens": 50, "completion_tokens": 4, "prompt_tokens_details": details}
    told = orjson.dumps({"choices": [message("well")], "usage": usage})
    parts = [event(delta("a")), event(delta("b", finish="stop")), event(usage=usage)]
    for tally in (whole(told).tally, streamed(*parts).tally):
        assert (tally.ttft_cached, tally.tpot_cached) == ((tally.ttft, tally.tpot) if is_cached else ({}, {}))
        assert tally.tpot


def test_times_of_several_choices_are_those_of_one() -> None:
    pieces = [event(delta("a", index=0), delta("a", index=1)), event(delta("b", index=0), delta("b", index=1))]
    ends = event(delta(finish="stop"), delta(index=1, finish="stop"))
    tally = streamed(*pieces, ends, times=[1.0, 1.5, 1.5]).tally
    assert (tally.answers, tally.output_tokens, tally.tpot) == (2, 4, {bucket_of(0.5): 1})


def test_a_whole_answer_has_a_time_per_token_and_none_to_the_first() -> None:
    tally = whole(answer_body(message("well"), message("well"), tokens=8)).tally
    assert (tally.answers, tally.output_tokens, tally.ttft, tally.tpot) == (2, 8, {}, {bucket_of(0.5): 1})


@pytest.mark.parametrize(
    ("choice", "empty", "length"),
    [
        (message("hi"), 0, 0),
        (message(" \n", finish="length"), 1, 1),
        (message(None), 1, 0),
        (message(None, tool_calls=[{"function": {"name": "f", "arguments": "{}"}}]), 0, 0),
        (message(None, tool_calls=[{"type": "custom", "custom": {"name": "f", "input": "x"}}]), 0, 0),
        ({"text": "hi", "finish_reason": "length"}, 0, 1),
        ({"text": "", "finish_reason": "stop"}, 1, 0),
    ],
)
def test_empty_answers_and_length_finishes_are_counted(choice: dict[str, Any], empty: int, length: int) -> None:
    tally = whole(answer_body(choice)).tally
    assert (tally.answers, tally.empty_answers, tally.length_finishes) == (1, empty, length)


@pytest.mark.parametrize(
    ("form", "content", "invalid"),
    [
        ("json_object", '{"a": 1}', 0),
        ("json_object", "[1]", 1),
        ("json_schema", "[1]", 0),
        ("json_schema", '{"a": ', 1),
        ("json_object", "", 1),
        ("json_object", "Sure! {}", 1),
    ],
)
def test_json_is_held_to_what_was_asked_for(form: str, content: str, invalid: int) -> None:
    asked = Asked.of({"response_format": {"type": form}})
    in_one, in_pieces = whole(answer_body(message(content)), asked), [*map(delta, content), delta(finish="stop")]
    for tally in (in_one.tally, streamed(*map(event, in_pieces), asked=asked).tally):
        assert (tally.json_asked, tally.json_invalid) == (1, invalid)
    assert whole(answer_body(message(content)), Asked.of({})).tally.json_asked == 0


def test_a_choice_that_calls_a_tool_instead_owes_no_json() -> None:
    calls = [{"function": {"name": "f", "arguments": arguments}} for arguments in ('{"a": 1}', "{", "")]
    tally = whole(answer_body(message(None, tool_calls=calls)), JSON).tally
    assert (tally.json_asked, tally.tool_calls, tally.tool_calls_invalid) == (0, 3, 2)


@pytest.mark.parametrize(
    ("parts", "error"),
    [
        ([], ErrorKind.MALFORMED),
        ([b"data: [DONE]\n\n"], ErrorKind.MALFORMED),
        ([event(delta("a")), b"data: [DONE]\n\n"], ErrorKind.MALFORMED),
        ([event(delta("a")), b"data: {oh\n\n", event(delta(finish="stop"))], ErrorKind.MALFORMED),
        ([event(delta("a")), b'data: {"error": {"message": "out of memory"}}\n\n'], ErrorKind.ENGINE_ERROR),
    ],
)
def test_a_stream_that_is_no_answer_is_an_error(parts: list[bytes], error: ErrorKind) -> None:
    facts = streamed(*parts)
    assert (facts.error, facts.tally) == (error, Tally(requests=1, errors={error: 1}))


def test_a_stream_is_whole_at_its_last_finish_or_its_end_event() -> None:
    reading = StreamReading(Asked(choices=2))
    for part, is_whole in (
        (event(delta("a", finish="stop")), False),
        (event(delta("a", index=1, finish="stop")), True),
    ):
        reading.add_chunk(part, 1.0)
        assert reading.is_whole is is_whole


def test_a_stream_is_not_whole_while_a_choice_that_began_goes_on() -> None:
    reading = StreamReading(TEXT)
    reading.add_chunk(event(delta("a", finish="stop"), delta("a", index=1)), 1.0)
    assert not reading.is_whole


@pytest.mark.parametrize(
    ("body", "choices"),
    [
        ({"n": 3}, 3),
        ({"n": 3.0}, 3),
        ({"prompt": "hi", "n": 2}, 2),
        ({"prompt": ["a", "b"], "n": 2}, 4),
        ({"prompt": [1, 2, 3]}, 1),
        ({"prompt": [1.0, 2]}, 1),
    ],
)
def test_the_choices_are_those_of_every_prompt(body: dict[str, Any], choices: int) -> None:
    assert Asked.of(body).choices == choices


def test_words_are_kept_only_where_they_are_wanted() -> None:
    body = answer_body(message("well"))
    assert whole(body).texts == ()
    assert whole(body, Asked.of({}, keep_text=True)).texts == ("well",)


@pytest.mark.parametrize("body", [{"n": 0}, {"n": True}, {"n": "2"}, {"response_format": "json"}, {}])
def test_what_no_engine_takes_asks_for_nothing(body: dict[str, Any]) -> None:
    assert Asked.of(body) == Asked()
