"""A client and the evidence of a rollout get the same of an answer, whatever its framing and wherever it is cut."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.edge.answer import AnswerPlan, RelayedAnswer
from gateway.evidence.answer_facts import Asked
from gateway.evidence.witness import reading_of
from gateway.wire.connections import EngineConnection, EnginePool
from gateway.wire.engine_answer import AnswerHead, AnswerSink, Fault
from tests.gateway.edge.test_answer import Read
from tests.gateway.edge.wire import RecordingTransport, RecordingTurn, chunked, pieces

ASKED = Asked.of({"messages": [], "stream": True}, keep_text=True)
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


@dataclass(frozen=True, kw_only=True)
class Sent:
    """An answer as an engine sends it."""

    events: list[str]
    """What the client is to get."""
    end: str
    """The blank line behind an event."""
    shows_usage: bool
    framing: str
    parts_at: list[int]
    cut_at: list[int]

    @property
    def body(self) -> bytes:
        events = self.events[:]
        if self.shows_usage:
            usage = f"data: {json.dumps({'choices': [], 'usage': USAGE})}{self.end}"
            events.insert(len(events) - 1, usage)
        return "".join(events).encode()

    @property
    def written(self) -> bytes:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
        if self.framing == "chunked":
            return head + b"transfer-encoding: chunked\r\n\r\n" + chunked(*pieces(self.body, self.parts_at))
        if self.framing == "length":
            return head + b"content-length: %d\r\n\r\n%b" % (len(self.body), self.body)
        return head + b"connection: close\r\n\r\n" + self.body


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
    places = st.lists(st.integers(0, 3000), max_size=16)
    return Sent(
        events=events,
        end=end,
        shows_usage=draw(st.booleans()),
        framing=draw(st.sampled_from(["chunked", "length", "close"])),
        parts_at=draw(places),
        cut_at=draw(places),
    )


class Client(RecordingTurn):
    """Passes an engine's answer on and reads it for the evidence as a request does."""

    def __init__(self) -> None:
        super().__init__()
        self.reading = reading_of(b"text/event-stream", ASKED)
        self.answer: RelayedAnswer

    def on_head(self, head: AnswerHead) -> AnswerSink:
        plan = AnswerPlan(lines=b"", hide_usage=True, witness=self)  # type: ignore[arg-type]
        self.answer = RelayedAnswer(self, head, plan, self)
        return self.answer

    def see_chunk(self, chunk: bytes) -> None:
        self.reading.add_chunk(chunk, 1.0)
        self.reading.read()


def relayed(sent: Sent) -> Client:
    connection, client = EngineConnection(EnginePool("http://127.0.0.1:1", 1.0)), Client()
    connection.connection_made(RecordingTransport())
    connection.send(client, b"ask")
    for part in pieces(sent.written, sent.cut_at):
        connection.data_received(part)
    if sent.framing == "close":
        connection.connection_lost(None)
    return client


@given(answers())
def test_bytes_usage_and_evidence_are_those_of_the_whole_answer(sent: Sent) -> None:
    client = relayed(sent)
    read = Read(client.written)
    assert (read.body.decode(), read.is_whole, client.is_answered) == ("".join(sent.events), True, True)
    assert client.answer.usage == (USAGE if sent.shows_usage else {})
    assert (client.answer.finish_reason, client.answer.completion_id) == ("stop", "c-1")
    at_once = relayed(replace(sent, framing="length", cut_at=[]))
    assert client.reading.result(0.0) == at_once.reading.result(0.0)
    assert client.answer.events == at_once.answer.events


@given(answers(), st.integers(0, 5000))
def test_a_client_has_whole_events_of_an_answer_that_was_cut(sent: Sent, at: int) -> None:
    connection, client = EngineConnection(EnginePool("http://127.0.0.1:1", 1.0)), Client()
    connection.connection_made(RecordingTransport())
    connection.send(client, b"ask")
    whole = sent.written
    kept = whole[: at % len(whole)]
    for start, stop in pairwise([0, *sorted(cut % len(kept) for cut in sent.cut_at if kept), len(kept)]):
        connection.data_received(kept[start:stop])
    connection.connection_lost(ConnectionResetError())
    assert client.faults == [Fault.CUT]
    if client.written:
        body = Read(client.written).body.decode()
        assert "".join(sent.events).startswith(body)
        assert not body or body.endswith(sent.end)
