"""Streams pass in whole events, and a client sees usage only if it asked for it."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.edge.events import EventFilter, engine_error_in, usage_of

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def event(said: Any, end: bytes = b"\n\n") -> bytes:
    return b"data: " + json.dumps(said, separators=(",", ":")).encode() + end


def piece(text: str, **more: Any) -> dict[str, Any]:
    return {"id": "c", "choices": [{"index": 0, "delta": {"content": text}}], **more}


STREAM = [
    event(piece("a", usage=None)),
    event(piece('say "usage" \n\n twice')),
    event(piece("c", usage={"completion_tokens": 1})),
    b": ping\n\n",
    event({"id": "c", "choices": [], "usage": USAGE}),
    b"data: [DONE]\n\n",
]
SHOWN = b"".join(STREAM[:4] + STREAM[5:])


def cut(whole: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(at % (len(whole) + 1) for at in cuts), len(whole)]
    return [whole[a:b] for a, b in pairwise(places)]


@given(st.lists(st.integers(0, 10_000), max_size=20), st.booleans(), st.sampled_from([b"\n\n", b"\r\n\r\n"]))
def test_wherever_a_stream_is_cut_the_same_comes_out(cuts: list[int], hide: bool, end: bytes) -> None:
    whole = b"".join(STREAM).replace(b"\n\n", end)
    events = EventFilter(hide_usage=hide)
    out = b"".join(events.feed(part) for part in cut(whole, cuts)) + events.end()
    assert out == (SHOWN.replace(b"\n\n", end) if hide else whole)
    assert events.usage["prompt_tokens"] == 3
    assert events.usage["completion_tokens"] == 2


@given(st.integers(0, len(SHOWN)))
def test_what_was_passed_on_ends_with_an_event_wherever_the_engine_stops(at: int) -> None:
    passed = EventFilter(hide_usage=True).feed(SHOWN[:at])
    assert passed == b"" or passed.endswith(b"\n\n")
    assert SHOWN.startswith(passed)


def test_an_event_that_the_engine_did_not_close_is_passed_on_at_its_end() -> None:
    events = EventFilter(hide_usage=True)
    assert events.feed(b"data: 1\n\ndata: 2\n") == b"data: 1\n\n"
    assert events.end() == b"data: 2\n"


def test_an_event_larger_than_any_is_not_held_back() -> None:
    large = b"data: " + b"x" * (1 << 20)
    assert EventFilter(hide_usage=True).feed(large) == large


@pytest.mark.parametrize("said", [None, [], "usage", {"usage": 3}, {"usage": None}])
def test_what_says_no_usage_says_none(said: Any) -> None:
    assert usage_of(said) == {}


def test_the_reason_to_finish_is_found_however_the_stream_is_cut() -> None:
    reason = event({"choices": [{"delta": {}, "finish_reason": "length"}]})
    events = [event(piece("a")), reason, event(piece('"finish_reason":"mine"')), event({"usage": USAGE}), STREAM[-1]]
    for size in (1, 7, 10_000):
        filtered = EventFilter(hide_usage=False)
        for each in events:
            for at in range(0, len(each), size):
                filtered.feed(each[at : at + size])
        filtered.feed(b"")  # the end of the body comes by itself
        assert filtered.finish_reason == "length"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (
            b'{"error": {"message": "m", "type": "t", "param": "stop[0]", "code": "invalid_value"}}',
            "invalid_value (stop[0])",
        ),
        (b'{"error": {"message": "m", "type": "BadRequestError", "param": null, "code": 400}}', "BadRequestError"),
        (b'{"object": "error", "message": "m", "type": "BadRequestError", "code": 400}', "BadRequestError"),
        (b'{"error": {"code": "my secret prompt", "param": "a text, with spaces"}}', "engine_error"),
        (b'{"error": "no"}', "engine_error"),
        (b"<html>", "engine_error"),
        (b"[" * 100_000, "engine_error"),
        (b"", "engine_error"),
    ],
)
def test_the_reason_of_an_engines_error_is_its_code_and_field_and_no_text(body: bytes, reason: str) -> None:
    assert engine_error_in(body) == reason
