"""An engine's answer on its way to a client of a dialect: translated event by event, or whole."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import orjson
from msgspec.structs import replace

from gateway.dialects.dialect import AnswerTranslator, Refused
from gateway.edge.answer import LAST_CHUNK, AnswerPlan, RelayedAnswer
from gateway.edge.turn import Turn
from gateway.errors import envelope
from gateway.evidence.sse import EventReader
from gateway.wire.engine_answer import AnswerHead, Requester
from registry.responses.types import StoredResponse

_END: Final = b"[DONE]"
NOT_AN_ANSWER: Final = (KeyError, TypeError, ValueError, AttributeError, IndexError)
"""Errors of reading an answer that does not have the shape of its path's."""


class WayBack(NamedTuple):
    """How an answer becomes the dialect's."""

    translator: AnswerTranslator
    refusal: Callable[[int, Mapping[str, Any]], Refused]
    """Translates an error that the engine answered with."""


class TranslatedAnswer(RelayedAnswer):
    """The sink of one answer, which goes out translated; `close` writes the last of it, once the turn wants that."""

    is_garbled = False
    """The engine sent something that is not an answer of its path."""
    _has_failed = False
    """The engine ended the stream with an error of its own, which the client has."""

    def __init__(self, way: WayBack, turn: Turn, head: AnswerHead, plan: AnswerPlan, requester: Requester) -> None:
        super().__init__(turn, head, plan, requester)
        self._translator = way.translator
        self._refusal_of = way.refusal
        self._reader = EventReader()
        self._refused = b""

    @property
    def completion_id(self) -> str:
        """The id by which the client may rate the answer: that of the dialect."""
        return self._translator.answer_id

    def on_data(self, data: bytes, is_whole: bool) -> None:
        """Pass on what the next bytes of the body are translated to."""
        self.is_quiet = False
        if self.first_byte_at is None:
            self._pass_first(data, is_whole)
        else:
            self._pass_on(data, is_whole)
        if self._witness is not None:
            self._witness.see_chunk(data)
        if is_whole or self.is_garbled:
            self._turn.answered()

    def on_chunk(self, chunk: bytes) -> bool:
        """Take only what `on_data` gets, as each event is translated."""
        return False

    def to_keep(self) -> StoredResponse | None:
        """Return what is stored before the client has all of the answer."""
        return None if self._refused or self._has_failed else self._translator.to_keep(time.time())

    def close(self, *, is_kept: bool) -> None:
        """Write the last of the answer, which the engine has sent whole."""
        if self._events is None:
            body = self._refused or self._translator.end(is_kept=is_kept)
            self._write(self._opening(len(body)) + body)
            return
        last = b"" if self._has_failed else self._translator.end(is_kept=is_kept)
        self._write(self._opening(None) + self._framed(last) + (LAST_CHUNK if self._is_chunked else b""))

    def break_off(self, code: str, message: str) -> bool:
        """End a stream that failed after bytes went out with the dialect's error; False if it can only be cut."""
        if not self.is_streamed:
            return False
        last = b"" if self._has_failed else self._translator.broke(envelope(503, code, message))
        self._write(self._framed(last) + (LAST_CHUNK if self._is_chunked else b""))
        return True

    def _pass_on(self, data: bytes, is_whole: bool) -> None:
        try:
            if self._events is not None:
                self._pass_events(self._events.feed(data) + (self._events.end() if is_whole else b""))
                return
            self._held.append(data)
            if is_whole:
                self._read_whole(b"".join(self._held))
        except NOT_AN_ANSWER:
            self.is_garbled = True

    def _pass_events(self, events: bytes) -> None:
        out = b"".join([self._event(data) for data in self._reader.feed(events) if data.strip() != _END])
        if out:
            self._write(self._opening(None) + self._framed(out))

    def _event(self, data: bytes) -> bytes:
        if self._has_failed:
            return b""
        chunk = orjson.loads(data)
        if error := chunk.get("error"):
            self._has_failed = True
            return self._translator.broke(_as_envelope(self.status, error))
        return self._translator.chunk(chunk)

    def _read_whole(self, body: bytes) -> None:
        self._held.clear()
        self._note_end(body)
        if self.status < 400:
            self._translator.whole(orjson.loads(body))
            return
        try:
            sent = orjson.loads(body)
        except ValueError:
            sent = body.decode(errors="replace")
        error = sent.get("error", sent) if isinstance(sent, dict) else sent
        status, refused = self._refusal_of(self.status, _as_envelope(self.status, error))
        self._head = replace(self._head, status=status)
        self._refused = orjson.dumps(refused)


def with_field(sent: Mapping[str, Any], asked_field: Callable[[str], str]) -> Mapping[str, Any]:
    """Return OpenAI's envelope with the field at fault as the client knows it, in the message too if it begins so."""
    error = sent["error"]
    field, message = error["param"], error["message"]
    if field is None:
        return sent
    named = asked_field(field)
    rest = message.removeprefix(field)
    if rest != message and not rest[:1].isalnum():
        message = named + rest
    return {"error": error | {"param": named, "message": message}}


def _as_envelope(status: int, error: Any) -> Mapping[str, Any]:
    """Return an engine's *error* in OpenAI's envelope; some send an older form, or mere text."""
    if not isinstance(error, dict):
        return envelope(status if status >= 400 else 500, None, str(error))
    code, param, message = (error.get(name) for name in ("code", "param", "message"))
    if status < 400:  # of an event within a stream
        status = code if isinstance(code, int) and 400 <= code < 600 else 500
    shown = envelope(status, code if isinstance(code, str) else None, str(message or error))
    return {"error": shown["error"] | {"param": param if isinstance(param, str) else None}}
