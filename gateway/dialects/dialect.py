"""The interface of a dialect: its requests as those of the path that answers them, and the answers back."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from registry.responses.types import StoredResponse


class Needed(NamedTuple):
    """Ids of the stored answers that a request cannot be translated without."""

    previous: str | None
    """The answer that the request goes on from, with all those before it."""
    others: frozenset[str]


class Arrival(NamedTuple):
    """Facts that the translation of a request needs beside its body."""

    at: float
    """When the request came; unix seconds."""
    token: str
    """Random letters and digits, unlike those of any other request: ids are formed from it."""
    earlier: tuple[StoredResponse, ...] = ()
    """The stored answers that the request goes on from, the oldest first."""
    referenced: Mapping[str, StoredResponse] = MappingProxyType({})
    """Further stored answers that the request refers to, by their id, as far as there are any."""


class Refused(NamedTuple):
    """An error as a dialect answers it."""

    status: int
    body: Mapping[str, Any]


class AnswerTranslator(Protocol):
    """The translator of an answer on its way back: a stream by chunks, or a whole answer; `end` comes last, and once.

    An answer that does not have the shape of its path's raises `KeyError`, `TypeError`, `ValueError`, `AttributeError`
    or `IndexError`.
    """

    @property
    def answer_id(self) -> str:
        """The id by which the client knows the answer."""
        ...

    def chunk(self, chunk: Mapping[str, Any]) -> bytes:
        """Return the whole events, maybe none, that the next chunk of a stream becomes."""
        ...

    def whole(self, answer: Mapping[str, Any]) -> None:
        """Take an answer in that is not a stream; `end` returns it."""
        ...

    def to_keep(self, at: float) -> StoredResponse | None:
        """Return what is stored before `end`, None where nothing is; the answer was whole *at* these unix seconds."""
        ...

    def end(self, *, is_kept: bool) -> bytes:
        """Return the last events of a stream, or the body of a whole answer; *is_kept*: the answer was stored."""
        ...

    def broke(self, error: Mapping[str, Any]) -> bytes:
        """Return the events that end a stream which failed; *error* is OpenAI's envelope."""
        ...


class Translation(Protocol):
    """A request of a dialect, translated."""

    @property
    def body(self) -> Mapping[str, Any]:
        """The request for the path that answers it; a stream asks for its usage."""
        ...

    @property
    def must_keep(self) -> bool:
        """Whether the request fails where its answer cannot be stored."""
        ...

    def asked_field(self, field: str) -> str:
        """Return the name of the client's field that *field* of `body` was made from: an engine names its own."""
        ...

    def begin(self) -> AnswerTranslator:
        """Return the translator of a new answer; a request that is sent again begins anew."""
        ...


class Dialect(Protocol):
    """A form of requests and answers, translated to those of the path that its `PathKind` names by `through`."""

    def needs(self, request: Mapping[str, Any]) -> Needed | None:
        """Return which stored answers *request* refers to, None where to none; `InvalidRequest`."""
        ...

    def translate(self, request: Mapping[str, Any], arrival: Arrival) -> Translation:
        """Return *request*, whose members are not null, translated; `InvalidRequest` names the field at fault."""
        ...

    def refusal(self, status: int, envelope: Mapping[str, Any], request_id: str) -> Refused:
        """Return OpenAI's *envelope* of an error as the dialect has it, and the status that its clients expect."""
        ...

    def head_lines(self, request_id: bytes) -> bytes:
        """Return header lines that only clients of the dialect read, for every answer."""
        ...
