"""An engine's answer on its way to the client: held while another replica could still be asked, then framed anew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec
import orjson

from gateway.edge.client import Client
from gateway.edge.events import EventFilter, finish_reason_in, usage_of
from gateway.edge.head import status_line
from gateway.errors import envelope
from gateway.routing.paths import PathKind
from gateway.wire.connections import AnswerHead

_MOST_HELD: Final = 1 << 20
"""A whole answer up to so many bytes is held until it is complete, so that a cut can still be made good."""
_LONGEST_READ_FOR_USAGE: Final = 4 << 20
_END_BYTES: Final = 2048
"""Of a whole answer: behind its text come the reason to finish and the usage."""
_EVENT_STREAM: Final = b"text/event-stream"
_LAST_CHUNK: Final = b"0\r\n\r\n"


class _WithUsage(msgspec.Struct):
    usage: Any = None


_USAGE: Final = msgspec.json.Decoder(_WithUsage)


class AnswerPlan(NamedTuple):
    """What is known of an answer before it begins. A tuple, as there is one for each request."""

    kind: PathKind
    lines: bytes
    """Header lines of ours: whose answer it is and what its caller may still ask."""
    hide_usage: bool
    """The client did not ask for the usage of a stream."""


class Answer:
    """Writes one answer to the client."""

    has_begun = False
    """Bytes went out: no other replica can be asked any more."""
    _held_bytes = 0
    _end = b""

    def __init__(self, client: Client, head: AnswerHead, plan: AnswerPlan) -> None:
        self._client = client
        self._write = client.write
        self._head = head
        self._plan = plan
        self.is_streamed = head.content_type.startswith(_EVENT_STREAM)
        self._is_chunked = client.takes_chunks
        self._events = EventFilter(hide_usage=plan.hide_usage) if self.is_streamed else None
        self._held: list[bytes] = []
        self._usage: Mapping[str, Any] = {}

    @property
    def status(self) -> int:
        """Its HTTP status."""
        return self._head.status

    @property
    def usage(self) -> Mapping[str, Any]:
        """What the engine said it used, as far as it has come."""
        return self._usage if self._events is None else self._events.usage

    @property
    def finish_reason(self) -> str:
        """Why it ended, in the engine's word; empty where that was not said or not seen."""
        return finish_reason_in(self._end) if self._events is None else self._events.finish_reason

    def take(self, data: bytes, is_whole: bool) -> None:
        """Pass the next bytes of the body on, or hold them back; all is written when it is whole."""
        events = self._events
        if events is None:
            self._take_part(data, is_whole)
            return
        out = events.take(data)
        if is_whole:
            out += events.end()
            self._write(self._opening(None) + self._framed(out) + (_LAST_CHUNK if self._is_chunked else b""))
        elif out and self.has_begun:
            self._write(b"%x\r\n%b\r\n" % (len(out), out) if self._is_chunked else out)
        elif out:
            self._write(self._opening(None) + self._framed(out))

    def break_off(self, code: str, message: str) -> bool:
        """The engine failed after bytes went out: end a stream with an error event. False if only a cut can say it."""
        if not self.is_streamed:
            return False
        named = self._plan.kind.error_event
        name = b"" if named is None else b"event: %b\n" % named.encode()
        body = {"type": "error", **envelope(503, code, message)} if named else envelope(503, code, message)
        event = name + b"data: " + orjson.dumps(body) + b"\n\n"
        self._write(self._framed(event) + (_LAST_CHUNK if self._is_chunked else b""))
        return True

    def _take_part(self, data: bytes, is_whole: bool) -> None:
        if not self.has_begun:
            self._held.append(data)
            self._held_bytes += len(data)
            if not is_whole and self._held_bytes <= _MOST_HELD:
                return
            data = b"".join(self._held)
            self._held.clear()
            if is_whole:
                self._end = data[-_END_BYTES:]
                self._note_usage(data)
                self._write(self._opening(len(data)) + data)
                return
            length = self._head.length
            self._is_chunked = self._is_chunked and length is None
            self._write(self._opening(length) + self._framed(data))
            return
        last = _LAST_CHUNK if is_whole and self._is_chunked else b""
        self._write(self._framed(data) + last)

    def _framed(self, data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked and data else data

    def _opening(self, length: int | None) -> bytes:
        """The head, the first time; *length* of the body if it is known."""
        if self.has_begun:
            return b""
        self.has_begun = True
        head = self._head
        if length is not None:
            framing = b"content-length: %d\r\n" % length
        else:
            framing = b"transfer-encoding: chunked\r\n" if self._is_chunked else b""
        may_stay = self._client.keeps_alive() and bool(framing)
        return b"".join(
            (
                status_line(head.status),
                self._client.head_lines(),
                b"content-type: %b\r\n" % head.content_type if head.content_type else b"",
                b"retry-after: %b\r\n" % head.retry_after if head.retry_after else b"",
                self._plan.lines,
                framing,
                b"\r\n" if may_stay else b"connection: close\r\n\r\n",
            )
        )

    def _note_usage(self, body: bytes) -> None:
        if len(body) > _LONGEST_READ_FOR_USAGE or b'"usage"' not in body:
            return
        try:
            said = _USAGE.decode(body).usage
        except (ValueError, RecursionError):
            return
        self._usage = usage_of({"usage": said})
