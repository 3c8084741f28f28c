"""An engine's answer on its way to the client: held while another replica could still be asked, then framed anew."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

import msgspec
import orjson

from gateway.balancing.replica_health import FirstByte, ReplicaHealth
from gateway.edge.events import EventFilter, engine_error_in, finish_reason_in
from gateway.edge.http_message import status_line
from gateway.edge.turn import Turn
from gateway.errors import envelope
from gateway.evidence.witness import Witness
from gateway.wire.engine_answer import AnswerHead, Fault, Requester

_MOST_HELD: Final = 1 << 20
"""A whole answer up to so many bytes is held until it is complete, so that a cut can still be made good."""
_LONGEST_READ_FOR_USAGE: Final = 4 << 20
_LONGEST_ID: Final = 256
_ID: Final = re.compile(rb'"id"\s*:\s*"([!#-\[\]-~]{1,256})"')
_ID_WITHIN: Final = 4096
"""Bytes of a stream within which its first event has the id."""
_END_BYTES: Final = 2048
"""How much of a whole answer's end is kept: behind its text come the reason to finish and the usage."""
_EVENT_STREAM: Final = b"text/event-stream"
# Each event is for now: no cache keeps it, and nginx passes it on at once.
_STREAM_LINES: Final = b"cache-control: no-cache\r\nx-accel-buffering: no\r\n"
LAST_CHUNK: Final = b"0\r\n\r\n"


class _WithUsage(msgspec.Struct):
    usage: Any = None
    id: Any = None


_USAGE: Final = msgspec.json.Decoder(_WithUsage)


class AnswerPlan(msgspec.Struct, frozen=True):
    """The facts of an answer that are known before its first byte. A struct, as there is one for each request."""

    lines: bytes
    """Header lines of ours: whose answer it is and what its caller may still ask."""
    hide_usage: bool
    """The client did not ask for the usage of a stream."""
    replica: str = ""
    asked_at: float = 0.0
    """When the replica was asked; monotonic."""
    health: ReplicaHealth | None = None
    """Gets the first byte noted; None where the status shows that the replica is not well."""
    witness: Witness | None = None
    """Reads what was passed on, where the answer is evidence for a rollout."""


class RelayedAnswer:
    """The sink of one answer: writes it to the client, and ends the turn with its last byte."""

    has_begun = False
    """Bytes went out: no other replica can be asked any more."""
    is_quiet = False
    """Set by the sweep; False again with the next bytes."""
    first_byte_at: float | None = None
    engine_error = ""
    """Why the engine refused the request, as its error's code and field; empty for an answer without an error."""
    first_byte_took_s = 0.0
    """The gateway's own time for the first bytes."""
    _passes_chunks = False
    _beginning = b""
    _id = ""
    _held_bytes = 0
    _end = b""
    _usage: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, turn: Turn, head: AnswerHead, plan: AnswerPlan, requester: Requester) -> None:
        """*requester* learns of a loss."""
        self._turn = turn
        self._write = turn.write
        self._head = head
        self._plan = plan
        self._requester = requester
        self._witness = plan.witness
        self.is_streamed = head.content_type.startswith(_EVENT_STREAM)
        self._is_chunked = turn.takes_chunks
        self._events = EventFilter(hide_usage=plan.hide_usage) if self.is_streamed else None
        self._held: list[bytes] = []

    @property
    def status(self) -> int:
        """HTTP status of the answer."""
        return self._head.status

    @property
    def usage(self) -> Mapping[str, Any]:
        """The usage that the engine reported, as far as it has come."""
        return self._usage if self._events is None else self._events.usage

    @property
    def events(self) -> int | None:
        """How many events of a stream were passed on; None where the answer is not a stream."""
        return None if self._events is None else self._events.count

    @property
    def finish_reason(self) -> str:
        """Why the answer ended, in the engine's word; empty where the engine did not send it."""
        return finish_reason_in(self._end) if self._events is None else self._events.finish_reason

    @property
    def completion_id(self) -> str:
        """The id by which the client may rate the answer; empty where the engine gave none."""
        if self._events is None:
            return self._id
        # The first read may end before the id, or hold a comment alone; each event has the id.
        return answer_id_in(self._beginning) or answer_id_in(self._events.latest)

    # called by the engine's connection

    def on_data(self, data: bytes, is_whole: bool) -> None:
        """Pass the next bytes of the body on, or hold them back; all is written when the answer is whole."""
        self.is_quiet = False
        events = self._events
        if self.first_byte_at is None:
            self._pass_first(data, is_whole)
        elif events is None or is_whole or not self.has_begun:
            self._pass_on(data, is_whole)
        elif out := events.feed(data):  # the chunks of a stream go this short way
            self._write(b"%x\r\n%b\r\n" % (len(out), out) if self._is_chunked else out)
        if self._witness is not None:
            self._witness.see_chunk(data)  # after the write, so that the client does not wait for it
        if is_whole:
            # The turn ends last: it reports usage and facts, which the last bytes may still change.
            self._turn.answered()

    def on_chunk(self, chunk: bytes) -> bool:
        """Pass a chunk of whole events on as it came, where nothing of it is to be read, left out or framed anew."""
        events = self._events
        if events is None or not self._passes_chunks or not events.pass_whole(chunk):
            return False
        self.is_quiet = False
        self._write(chunk)
        return True

    def on_lost(self, fault: Fault) -> None:
        """Leave it to the requester whether another replica can be asked."""
        self._requester.on_lost(fault)

    def break_off(self, code: str, message: str) -> bool:
        """End a stream that failed after bytes went out with an error event; False if the answer can only be cut."""
        # Nothing in a body of JSON can mark it as incomplete: only an early end of the connection can (RFC 9112, 8).
        if not self.is_streamed:
            return False
        # The filter passed on whole events only, so this one begins on a line of its own.
        event = b"data: " + orjson.dumps(envelope(503, code, message)) + b"\n\n"
        self._write(self._framed(event) + (LAST_CHUNK if self._is_chunked else b""))
        return True

    def _pass_first(self, data: bytes, is_whole: bool) -> None:
        now = self.first_byte_at = time.monotonic()
        self._beginning = data
        plan = self._plan
        if plan.health is not None:
            plan.health.first_bytes.append(FirstByte(plan.replica, now - plan.asked_at, now))
        self._pass_on(data, is_whole)
        self.first_byte_took_s = time.monotonic() - now

    def _pass_on(self, data: bytes, is_whole: bool) -> None:
        events = self._events
        if events is None:
            self._pass_part(data, is_whole)
            return
        out = events.feed(data)
        if is_whole:
            out += events.end()
            self._write(self._opening(None) + self._framed(out) + (LAST_CHUNK if self._is_chunked else b""))
        elif out:
            self._write(self._opening(None) + self._framed(out))

    def _pass_part(self, data: bytes, is_whole: bool) -> None:
        """Hold the parts of an answer that is not a stream, and pass them on once they are whole or too large."""
        if self.has_begun:
            last = LAST_CHUNK if is_whole and self._is_chunked else b""
            self._write(self._framed(data) + last)
            return
        if self._held or not is_whole:
            self._held.append(data)
            self._held_bytes += len(data)
            if not is_whole and self._held_bytes <= _MOST_HELD:
                return
            data = b"".join(self._held)
            self._held.clear()
        if is_whole:
            self._note_end(data)
            self._write(self._opening(len(data)) + data)
            return
        length = self._head.length
        # The engine's own length, if there is one, replaces chunks: a message has one of the two (RFC 9112, 6.2).
        self._is_chunked = self._is_chunked and length is None
        self._write(self._opening(length) + self._framed(data))

    def _framed(self, data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked and data else data

    def _opening(self, length: int | None) -> bytes:
        """Return the head, the first time; *length* of the body if it is known."""
        if self.has_begun:
            return b""
        self.has_begun = True
        self._passes_chunks = self._is_chunked and self._witness is None
        head = self._head
        if length is not None:
            framing = b"content-length: %d\r\n" % length
        else:
            framing = b"transfer-encoding: chunked\r\n" if self._is_chunked else b""
        # without any framing only the end of the connection can end the body
        may_stay = self._turn.keeps_alive() and bool(framing)
        lines = _engine_lines(head.status, head.content_type)
        return b"%b%b%b%b%b%b" % (
            lines[self._turn.sent_ahead :],
            self._turn.head_lines(),
            b"retry-after: %b\r\n" % head.retry_after if head.retry_after else b"",
            self._plan.lines,
            framing,
            b"\r\n" if may_stay else b"connection: close\r\n\r\n",
        )

    def _note_end(self, body: bytes) -> None:
        """Note what is reported of an answer that is not a stream."""
        self._end = body[-_END_BYTES:]
        if self._head.status >= 400:
            self.engine_error = engine_error_in(body)
        if len(body) > _LONGEST_READ_FOR_USAGE or b'"usage"' not in body:
            return
        try:
            found = _USAGE.decode(body)
        # The answer goes to the client as it is, whether or not its usage can be read.
        except (ValueError, RecursionError):
            return
        if isinstance(found.usage, dict):
            self._usage = found.usage
        # An id of other characters cannot be stored by every database, and a stream's is not taken either.
        if isinstance(found.id, str) and len(found.id) <= _LONGEST_ID and found.id.isascii() and found.id.isprintable():
            self._id = found.id


@lru_cache(maxsize=256)
def _engine_lines(status: int, content_type: bytes) -> bytes:
    """Return the status line and the lines about the body of an engine's answer."""
    lines = status_line(status)
    if content_type:
        lines += b"content-type: %b\r\n" % content_type
    return lines + _STREAM_LINES if content_type.startswith(_EVENT_STREAM) else lines


def answer_id_in(events: bytes) -> str:
    """Return the first id in some *events* of a stream: in every protocol that of the answer."""
    found = _ID.search(events, 0, _ID_WITHIN)
    return "" if found is None else found[1].decode()
