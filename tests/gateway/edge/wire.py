"""Both ends of a connection without a socket, which record what was written to them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from itertools import pairwise

from gateway.edge.turn import Step, Turn
from gateway.wire.engine_answer import AnswerHead, AnswerSink, Fault


class RecordingTransport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.is_closed = False
        self.is_paused = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_closed = True

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False


class RecordingSink:
    """Keeps an engine's answer."""

    def __init__(self) -> None:
        self.head: AnswerHead | None = None
        self.body = b""
        self.is_whole = False
        self.fault: Fault | None = None

    def on_head(self, head: AnswerHead) -> RecordingSink:
        assert self.head is None
        self.head = head
        return self

    def on_data(self, data: bytes, is_whole: bool) -> None:
        assert self.head is not None
        assert not self.is_whole
        assert self.fault is None
        self.body += data
        self.is_whole = is_whole

    def on_chunk(self, _: bytes) -> bool:
        return False

    def on_lost(self, fault: Fault) -> None:
        assert not self.is_whole
        assert self.fault is None
        self.fault = fault


class RecordingTurn(Turn):
    """Keeps what a client is sent."""

    def __init__(self, *, takes_chunks: bool = True, keeps_alive: bool = True) -> None:
        self.written = b""
        self.writes = 0
        self.write = self._keep
        self.takes_chunks = takes_chunks
        self.keep_alive = keeps_alive
        self.faults: list[Fault] = []
        self.is_answered = False

    def _keep(self, data: bytes) -> None:
        self.written += data
        self.writes += 1

    def head_lines(self) -> bytes:
        return b"date: today\r\n"

    @property
    def has_begun(self) -> bool:
        return bool(self.written)

    def keeps_alive(self) -> bool:
        return self.keep_alive

    def answered(self) -> None:
        assert not self.is_answered
        self.is_answered = True

    def on_head(self, head: AnswerHead) -> AnswerSink | None:
        raise AssertionError

    def on_lost(self, fault: Fault) -> None:
        self.faults.append(fault)

    def check_caller(self) -> None:
        raise AssertionError

    def begin(self, raw: bytes) -> None:
        raise AssertionError

    def advance(self, step: Step) -> None:
        raise AssertionError

    def fail(self, error: Exception) -> None:
        raise AssertionError

    def broke(self) -> None:
        raise AssertionError


def pieces(whole: bytes, cuts: Iterable[int]) -> list[bytes]:
    """*whole* in pieces, none of them empty."""
    places = [0, *sorted({at % (len(whole) + 1) for at in cuts}), len(whole)]
    return [whole[a:b] for a, b in pairwise(places) if a < b]


def chunked(*parts: bytes) -> bytes:
    """The parts as a chunked body."""
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts if part) + b"0\r\n\r\n"
