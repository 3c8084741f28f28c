"""One request's turn on its client's connection; answers go out in the order in which requests came."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from gateway.edge.edge import Edge
from gateway.edge.exchange import Exchange
from gateway.edge.head import RequestHead
from gateway.errors import BodyTooLarge
from gateway.routing.paths import PathKind

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_MOST_WAITING: Final = 16
_MOST_WAITING_BYTES: Final = 64 * 1024


class ClientConnection(Protocol):
    """The connection that a turn belongs to."""

    edge: Edge
    transport: asyncio.Transport

    def head_lines(self) -> bytes:
        """Header lines that every answer carries."""
        ...

    def turn_is_over(self, turn: Turn) -> None:
        """Its answer is whole."""
        ...

    def listen_no_more(self) -> None:
        """Throw away what the client sends from now on."""
        ...


class _NobodyWaits:
    """Stands where uvicorn's own requests have an event that wakes their task."""

    def set(self) -> None:
        """Nobody is woken."""


class Turn:
    """A `Client` for its exchange; to uvicorn, what one of its own requests is."""

    message_event: Final = _NobodyWaits()
    keep_alive = True
    response_complete = False
    disconnected = False
    expects_continue = False
    size = 0
    """Bytes of its body, as far as they have come."""
    _is_its_turn = False
    _is_whole = False
    _refusal: Exception | None = None

    def __init__(self, connection: ClientConnection, head: RequestHead, kind: PathKind, version: str) -> None:
        """*version* of HTTP that the client speaks."""
        self.write: Callable[[bytes], None] = connection.transport.write
        self.takes_chunks = version == "1.1"
        self._connection = connection
        self._parts: list[bytes] = []
        settings = connection.edge.parts.settings
        self._most_bytes = settings.max_form_bytes if kind.is_multipart else settings.max_body_bytes
        self.exchange = Exchange(connection.edge, self, head, kind)

    @property
    def is_being_read(self) -> bool:
        """It is its turn, and its client has not sent all of it."""
        return self._is_its_turn and not self._is_whole

    # what the parser tells

    def expect(self, length: int) -> None:
        """A body of so many bytes follows."""
        if length > self._most_bytes:
            self.refuse(self._too_large())

    def take(self, data: bytes) -> None:
        """A part of the body."""
        self.size += len(data)
        if self._refusal is not None:
            return
        self._parts.append(data)
        if self.size > self._most_bytes:
            self.refuse(self._too_large())

    def complete(self) -> None:
        """The body is whole."""
        self._is_whole = True
        self._proceed()

    def refuse(self, error: Exception) -> None:
        """It is answered with the error when its turn comes; the first error counts."""
        if self._refusal is None:
            self._refusal = error
            self._parts.clear()

    # what the connection tells

    def start(self) -> None:
        """All earlier answers are whole."""
        self._is_its_turn = True
        if self.expects_continue and self._refusal is None and not self._is_whole:
            self.write(_CONTINUE)
        self._proceed()

    def settle(self) -> None:
        """All that came is read: if it is refused, its client is told now and not after the rest of its body."""
        if self._refusal is not None and self.is_being_read:
            self._is_whole = True
            self.keep_alive = False
            self._connection.listen_no_more()
            self._proceed()

    def _proceed(self) -> None:
        if not (self._is_its_turn and self._is_whole) or self.response_complete:
            return
        if self._refusal is not None:
            self.exchange.refuse(self._refusal)
            return
        body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts = []
        self.exchange.begin(body)

    # what the exchange tells, as a `Client`

    def head_lines(self) -> bytes:
        return self._connection.head_lines()

    def keeps_alive(self) -> bool:
        if self._connection.edge.is_draining:
            self.keep_alive = False
        return self.keep_alive

    def done(self) -> None:
        self.response_complete = True
        self._connection.turn_is_over(self)
        del self.exchange  # which knows this turn: in a circle they would stay until the garbage collector comes

    def cut(self) -> None:
        self.response_complete = True
        self._connection.transport.close()

    def abort(self) -> None:
        self.response_complete = True
        self._connection.transport.abort()

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"the body is larger than {self._most_bytes} bytes")


def has_enough(waiting: Iterable[Turn]) -> bool:
    """Whether so much waits behind others on one connection that nothing is read until one is answered."""
    sizes = [turn.size for turn in waiting]
    return len(sizes) >= _MOST_WAITING or sum(sizes) >= _MOST_WAITING_BYTES
