"""A client gets an answer framed anew, complete, or ended so that it can detect the cut."""

from __future__ import annotations

import json

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.edge.answer import AnswerPlan, RelayedAnswer
from gateway.wire.engine_answer import AnswerHead
from tests.gateway.edge.wire import RecordingTurn, pieces

STREAM = b'data: {"n":1}\n\ndata: {"n":2}\n\ndata: [DONE]\n\n'
WHOLE = b'{"choices":[],"usage":{"prompt_tokens":2,"completion_tokens":3}}'

cuts = st.lists(st.integers(0, 500), max_size=12)


class Read:
    """An answer as a client reads it."""

    def __init__(self, raw: bytes) -> None:
        self.headers: dict[bytes, bytes] = {}
        self.body = b""
        self.is_whole = False
        parser = httptools.HttpResponseParser(self)
        parser.feed_data(raw)
        self.status = parser.get_status_code()

    def on_header(self, name: bytes, value: bytes) -> None:
        assert name not in self.headers
        self.headers[name] = value

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.is_whole = True


def head(content_type: bytes, length: int | None = None, status: int = 200) -> AnswerHead:
    return AnswerHead(status=status, content_type=content_type, retry_after=b"", length=length)


def answer(client: RecordingTurn, of: AnswerHead, lines: bytes = b"x-a: b\r\n") -> RelayedAnswer:
    plan = AnswerPlan(lines=lines, hide_usage=True)
    return RelayedAnswer(client, of, plan, client)


def feed(to: RelayedAnswer, whole: bytes, cut_at: list[int]) -> None:
    parts = pieces(whole, cut_at) or [b""]
    for number, part in enumerate(parts, 1):
        to.on_data(part, number == len(parts))


@given(cuts)
def test_a_stream_is_the_same_however_its_bytes_came(cut_at: list[int]) -> None:
    client = RecordingTurn()
    feed(answer(client, head(b"text/event-stream; charset=utf-8")), STREAM, cut_at)
    read = Read(client.written)
    assert (read.status, read.body, read.is_whole) == (200, STREAM, True)
    assert read.headers[b"x-a"] == b"b"
    assert (read.headers[b"cache-control"], read.headers[b"x-accel-buffering"]) == (b"no-cache", b"no")
    assert b"connection" not in read.headers


def test_one_read_is_one_write() -> None:
    client = RecordingTurn()
    streamed = answer(client, head(b"text/event-stream"))
    streamed.on_data(STREAM[:15], False)
    streamed.on_data(STREAM[15:30], False)
    streamed.on_data(STREAM[30:], True)
    assert client.writes == 3


@given(cuts, st.booleans(), st.booleans())
def test_an_answer_that_is_no_stream_is_held_until_it_is_whole(
    cut_at: list[int], says_length: bool, takes_chunks: bool
) -> None:
    client = RecordingTurn(takes_chunks=takes_chunks)
    whole = answer(client, head(b"application/json", len(WHOLE) if says_length else None))
    parts = pieces(WHOLE, cut_at)
    for part in parts[:-1]:
        whole.on_data(part, False)
    assert not whole.has_begun
    whole.on_data(parts[-1], True)
    read = Read(client.written)
    assert (read.body, read.headers[b"content-length"]) == (WHOLE, b"%d" % len(WHOLE))
    assert (client.writes, whole.usage) == (1, {"prompt_tokens": 2, "completion_tokens": 3})


@pytest.mark.parametrize("length", [3 << 20, None])
@pytest.mark.parametrize("takes_chunks", [True, False])
def test_an_answer_that_is_too_large_to_be_held_is_passed_on_as_it_comes(
    length: int | None, takes_chunks: bool
) -> None:
    client = RecordingTurn(takes_chunks=takes_chunks)
    large = answer(client, head(b"application/json", length))
    for number in range(1, 4):
        large.on_data(b"x" * (1 << 20), number == 3)
    raw = client.written
    if takes_chunks or length is not None:
        assert Read(raw).is_whole
        assert len(Read(raw).body) == 3 << 20
    else:
        assert raw.endswith(b"x" * (3 << 20))
        assert b"connection: close" in raw


def test_what_broke_before_anything_went_out_can_be_asked_for_again() -> None:
    client = RecordingTurn()
    streamed = answer(client, head(b"text/event-stream"))
    streamed.on_data(STREAM[:10], False)
    assert not streamed.has_begun
    assert client.written == b""


@given(st.integers(15, len(STREAM) - 1))
def test_a_stream_that_breaks_anywhere_ends_with_an_error_event_and_cleanly(at: int) -> None:
    client = RecordingTurn()
    streamed = answer(client, head(b"text/event-stream"))
    streamed.on_data(STREAM[:at], False)
    assert streamed.break_off("engine_unavailable", "it broke")
    read = Read(client.written)
    events = read.body.decode().split("\n\n")
    assert read.is_whole
    assert events[-1] == ""
    assert json.loads(events[-2].removeprefix("data: "))["error"]["code"] == "engine_unavailable"
    assert STREAM.decode().split("\n\n")[: len(events) - 2] == events[:-2]


def test_only_a_stream_can_end_with_an_event() -> None:
    large = answer(RecordingTurn(), head(b"application/json"))
    large.on_data(b"x" * (2 << 20), False)
    assert not large.break_off("engine_unavailable", "it broke")


def test_a_client_that_knows_no_chunks_gets_the_bytes_and_the_end() -> None:
    client = RecordingTurn(takes_chunks=False, keeps_alive=False)
    feed(answer(client, head(b"text/event-stream")), STREAM, [20])
    assert client.written.endswith(b"\r\n\r\n" + STREAM)
    assert b"connection: close\r\n" in client.written
    assert b"chunked" not in client.written


@pytest.mark.parametrize("content_type", [b"text/event-stream", b"application/json"])
def test_in_a_drain_the_head_asks_the_client_to_connect_anew(content_type: bytes) -> None:
    client = RecordingTurn(keeps_alive=False)
    feed(answer(client, head(content_type)), STREAM, [20])
    assert Read(client.written).headers[b"connection"] == b"close"


@pytest.mark.parametrize("content_type", [b"text/event-stream", b"application/json", b""])
def test_an_empty_answer_is_an_answer(content_type: bytes) -> None:
    client = RecordingTurn()
    answer(client, head(content_type, status=418)).on_data(b"", True)
    read = Read(client.written)
    assert (read.status, read.body, read.is_whole) == (418, b"", True)
