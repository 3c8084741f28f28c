"""The events of an answer that a connection to an engine reports, and their receivers."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

from msgspec import Struct


class Fault(StrEnum):
    """Why an engine did not answer a request whole."""

    UNREACHABLE = "unreachable"  # it could not be connected to
    STALE = "stale"  # a kept connection had been closed by the other end before it was used again
    CUT = "cut"  # the connection ended before the answer did
    MALFORMED = "malformed"  # it does not speak HTTP/1.1
    SILENT = "silent"  # it sent nothing for too long
    REFUSED = "refused"  # it answered with a status after which another replica is asked
    STOPPED = "stopped"  # no fault of the engine's: the sender does not want the answer any more


class AnswerHead(Struct, frozen=True, gc=False):
    """The head of an engine's answer. A struct, as there is one for each request."""

    status: int
    content_type: bytes
    retry_after: bytes
    length: int | None
    """Bytes of its body if the head has a content-length."""


class AnswerSink(Protocol):
    """Receives the body of an engine's answer; nothing follows its end, a loss, or the connection's `close`."""

    def on_data(self, data: bytes, is_whole: bool) -> None:
        """The next bytes of the body have come, without their framing; *is_whole*: there are no more."""
        ...

    def on_chunk(self, chunk: bytes) -> bool:
        """Pass a chunk on as the engine framed it, which ends with a blank line; False to get it by `on_data`."""
        ...

    def on_lost(self, fault: Fault) -> None:
        """The connection failed before the answer was whole."""
        ...


class Requester(Protocol):
    """The sender of a request, which chooses where the answer goes once it knows the head."""

    def on_head(self, head: AnswerHead) -> AnswerSink | None:
        """Return the sink of the body; None after the requester closed the connection."""
        ...

    def on_lost(self, fault: Fault) -> None:
        """The connection failed before the head came."""
        ...
