"""A client and the evidence of a rollout get the same of an answer, whatever its framing and wherever it is cut."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.edge.answer import AnswerPlan, RelayedAnswer
from gateway.evidence.answer_facts import Asked
from gateway.evidence.witness import reading_of
from gateway.wire.connections import EngineConnection, EnginePool
from gateway.wire.engine_answer import AnswerHead, AnswerSink, Fault
from tests.gateway.edge.test_answer import Read
from tests.gateway.edge.wire import RecordingTransport, RecordingTurn, pieces

ASKED = Asked.of({"messages": [], "stream": True}, keep_text=True)
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


@dataclass(frozen=True, kw_only=True)
class Sent:
    """An answer as an engine sends it."""

    events: list[str]
    """The answer that the client is to get."""
    end: str
    """The blank line behind an event."""
    shows_usage: bool
    framing: str
    has_chunk_for_each: bool
    is_cut_at_chunks: bool
    parts_at: list[int]
    cut_at: list[int]

    @property
    def parts(self) -> list[bytes]:
        """Return the body in the chunks that the engine makes of it: one for each event, or cut anywhere."""
        events = self.events[:]
        if self.shows_usage:
            usage = f"data: {json.dumps({'choices': [], 'usage': USAGE})}{self.end}"
            events.insert(len(events) - 1, usage)
        parts = [event.encode() for event in events]
        return parts if self.has_chunk_for_each else pieces(b"".join(parts), self.parts_at)

    @property
    def reads(self) -> list[bytes]:
        """Return what the gateway gets in each read: from one cut to the next, with a cut behind each chunk or none."""
        written, cuts, body = HEAD, self.cut_at[:], b"".join(self.parts)
        if self.framing == "chunked":
            written += b"transfer-encoding: chunked\r\n\r\n"
            for part in self.parts:
                cuts += [len(written)] * self.is_cut_at_chunks
                written += b"%x\r\n%b\r\n" % (len(part), part)
            cuts += [len(written)] * self.is_cut_at_chunks
            written += b"0\r\n\r\n"
        elif self.framing == "length":
            written += b"content-length: %d\r\n\r\n%b" % (len(body), body)
        else:
            written += b"connection: close\r\n\r\n" + body
        return pieces(written, cuts)


def _event(text: str, end: str, finish: str | None = None, **more: Any) -> str:
    line_end = end[: len(end) // 2]
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    shown = json.dumps({"id": "c-1", "choices": [choice], **more}, ensure_ascii=False)
    return f"event: delta{line_end}data: {shown}{end}"


@st.composite
def answers(draw: st.DrawFn) -> Sent:
    end = draw(st.sampled_from(["\n\n", "\r\n\r\n"]))
    words = st.text('aé漢🙂 \\"\n', min_size=1, max_size=6)
    pieces_or_comments = draw(st.lists(st.one_of(words, st.none()), max_size=8))
    events = [f": still here{end}" if word is None else _event(word, end) for word in pieces_or_comments]
    events += [_event("", end, "stop", usage=None), f"data: [DONE]{end}"]
    places = st.lists(st.integers(0, 3000), max_size=draw(st.sampled_from([0, 2, 16])))
    return Sent(
        events=events,
        end=end,
        shows_usage=draw(st.booleans()),
        framing=draw(st.sampled_from(["chunked", "chunked", "length", "close"])),
        has_chunk_for_each=draw(st.booleans()),
        is_cut_at_chunks=draw(st.booleans()),
        parts_at=draw(places),
        cut_at=draw(places),
    )


class Client(RecordingTurn):
    """Passes an engine's answer on and reads it for the evidence as a request does."""

    def __init__(self, *, is_evidence: bool = True) -> None:
        super().__init__()
        self.witness = self if is_evidence else None
        self.reading = reading_of(b"text/event-stream", ASKED)
        self.answer: RelayedAnswer

    def on_head(self, head: AnswerHead) -> AnswerSink:
        plan = AnswerPlan(lines=b"", hide_usage=True, witness=self.witness)  # type: ignore[arg-type]
        self.answer = RelayedAnswer(self, head, plan, self)
        return self.answer

    def see_chunk(self, chunk: bytes) -> None:
        self.reading.add_chunk(chunk, 1.0)
        self.reading.read()


def relayed(sent: Sent, *, is_evidence: bool) -> Client:
    connection, client = EngineConnection(EnginePool("http://127.0.0.1:1", 1.0)), Client(is_evidence=is_evidence)
    connection.connection_made(RecordingTransport())
    connection.send(client, b"ask")
    for part in sent.reads:
        connection.data_received(part)
    if sent.framing == "close":
        connection.connection_lost(None)
    return client


@given(answers(), st.booleans())
def test_bytes_usage_and_evidence_are_those_of_the_whole_answer(sent: Sent, is_evidence: bool) -> None:
    client = relayed(sent, is_evidence=is_evidence)
    read = Read(client.written)
    assert (read.body.decode(), read.is_whole, client.is_answered) == ("".join(sent.events), True, True)
    assert client.answer.usage == (USAGE if sent.shows_usage else {})
    assert (client.answer.finish_reason, client.answer.completion_id) == ("stop", "c-1")
    at_once = relayed(replace(sent, framing="length", cut_at=[], is_cut_at_chunks=False), is_evidence=True)
    if is_evidence:
        assert client.reading.result(0.0) == at_once.reading.result(0.0)
    assert client.answer.events == at_once.answer.events


@given(answers(), st.integers(0, 5000), st.booleans())
def test_a_client_has_whole_events_of_an_answer_that_was_cut(sent: Sent, at: int, is_evidence: bool) -> None:
    connection, client = EngineConnection(EnginePool("http://127.0.0.1:1", 1.0)), Client(is_evidence=is_evidence)
    connection.connection_made(RecordingTransport())
    connection.send(client, b"ask")
    left = at % len(b"".join(sent.reads))
    for part in sent.reads:
        connection.data_received(part[:left])
        left -= len(part[:left])
    connection.connection_lost(ConnectionResetError())
    assert client.faults == [Fault.CUT]
    if client.written:
        body = Read(client.written).body.decode()
        assert "".join(sent.events).startswith(body)
        assert not body or body.endswith(sent.end)


@pytest.mark.parametrize("chunk", [b"data: 3\n\n", b"data: 3\n\ndata: 4\n\n", b"data: 3", b"data: 3\r\n\r\n"])
def test_a_chunk_is_passed_on_as_it_came_only_between_whole_events(chunk: bytes) -> None:
    framed = b"%x\r\n%b\r\n" % (len(chunk), chunk)
    for begun, rest in ((b"data: 1\n\n", b""), (b"data: 1\n\nda", b"ta: 2\n\n")):
        connection, client = EngineConnection(EnginePool("http://127.0.0.1:1", 1.0)), Client(is_evidence=False)
        connection.connection_made(RecordingTransport())
        connection.send(client, b"ask")
        connection.data_received(HEAD + b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(begun), begun))
        before = len(client.written)
        connection.data_received(framed)
        is_as_it_came = not rest and chunk.endswith((b"\n\n", b"\r\n\r\n"))
        assert (client.written[before:] == framed) is is_as_it_came
        connection.data_received(b"%x\r\n%b\r\n0\r\n\r\n" % (len(rest), rest) if rest else b"0\r\n\r\n")
        assert Read(client.written).body == begun + chunk + rest
        assert client.is_answered
