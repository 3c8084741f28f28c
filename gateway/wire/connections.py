"""Connections to engines: kept open, one request at a time on each, no task and no queue around them."""

from __future__ import annotations

import asyncio
import math
import ssl
import time
from collections import deque
from collections.abc import Callable, Collection
from enum import StrEnum
from typing import Final, NamedTuple, Protocol, cast
from urllib.parse import urlsplit

import httptools

_LARGEST_HEAD: Final = 64 * 1024
_IDLE_S: Final = 60.0
"""A connection that nobody used for so long is closed."""


class Fault(StrEnum):
    """How an engine let a request down."""

    UNREACHABLE = "unreachable"  # it could not be connected to
    STALE = "stale"  # a kept connection had been closed by the other end before it was used again
    CUT = "cut"  # the connection ended before the answer did
    MALFORMED = "malformed"  # it does not speak HTTP/1.1
    SILENT = "silent"  # it said nothing for too long
    REFUSED = "refused"  # it answered with a status after which another replica is asked
    STOPPED = "stopped"  # no fault of the engine's: whoever asked does not want the answer any more


class AnswerHead(NamedTuple):
    """The head of an engine's answer. A tuple, as there is one for each request."""

    status: int
    content_type: bytes
    retry_after: bytes
    length: int | None
    """Bytes of its body if it said so."""


class AnswerSink(Protocol):
    """Takes an engine's answer as it comes. Nothing more is told after its end, a loss, or the connection's `close`."""

    def on_head(self, head: AnswerHead) -> None:
        """The head is there."""
        ...

    def on_data(self, data: bytes, is_whole: bool) -> None:
        """The next bytes of the body, without their framing; *is_whole*: there are no more."""
        ...

    def on_lost(self, fault: Fault) -> None:
        """The connection failed before the answer was whole."""
        ...


class EngineConnection(asyncio.Protocol):
    """One connection; it goes back to its pool by itself when an answer is whole."""

    def __init__(self, pool: EnginePool) -> None:
        self._pool = pool
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport
        self.sink: AnswerSink | None = None
        """Whom the answer goes to; may be replaced by whoever is the sink."""
        self.idle_since = 0.0
        self._was_used = False
        self._is_open = False
        self._headers: dict[bytes, bytes] = {}
        self._head_bytes = 0
        self._head: AnswerHead | None = None
        self._head_is_new = False
        self._keeps_alive = False
        self._is_chunked = False
        self._is_whole = False
        self._is_paused = False
        self._pieces: list[bytes] = []

    def send(self, sink: AnswerSink, request: bytes) -> None:
        """Send a request whose answer goes to *sink*."""
        self.sink = sink
        self._head = None
        self._head_bytes = 0
        self._is_whole = False
        self._transport.write(request)

    def close(self) -> None:
        """End the connection now, and with it what the engine generates for it."""
        self.sink = None
        self._is_open = False
        self._transport.abort()

    def pause(self) -> None:
        """Read no more until `resume`."""
        self._is_paused = True
        self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self._is_paused:
            self._is_paused = False
            self._transport.resume_reading()

    @property
    def is_usable(self) -> bool:
        """A request may be sent."""
        return self._is_open and not self._transport.is_closing()

    # what the event loop tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._is_open = True

    def data_received(self, data: bytes) -> None:
        if self.sink is None:
            self.close()  # what nobody asked for is not to be taken for the next answer
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._lose(Fault.MALFORMED)
            return
        if self._head is None:
            self._head_bytes += len(data)
            if self._head_bytes > _LARGEST_HEAD:
                self._lose(Fault.MALFORMED)
            return
        if self._head_is_new or self._is_whole:
            self._pass_on(self._head)
        elif self._pieces:  # what comes again and again goes the short way
            pieces, self._pieces = self._pieces, []
            self.sink.on_data(pieces[0] if len(pieces) == 1 else b"".join(pieces), False)

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_open = False
        self._pool.forget(self)
        head = self._head
        if self.sink is None:
            return
        if head is not None and exc is None and head.length is None and not self._keeps_alive and not self._is_chunked:
            self._is_whole = True  # the end of the connection is the end of such a body
            self._pass_on(head)
        else:
            self._lose(Fault.STALE if self._was_used and head is None and not self._head_bytes else Fault.CUT)

    # what the parser tells

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        headers, self._headers = self._headers, {}
        if status < 200 or self._is_whole:
            return
        length = headers.get(b"content-length")
        self._is_chunked = b"transfer-encoding" in headers
        self._keeps_alive = self._parser.should_keep_alive()
        self._head_is_new = True
        self._head = AnswerHead(
            status=status,
            content_type=headers.get(b"content-type", b""),
            retry_after=headers.get(b"retry-after", b""),
            length=None if length is None else int(length),
        )

    def on_body(self, body: bytes) -> None:
        if not self._is_whole:
            self._pieces.append(body)

    def on_message_begin(self) -> None:
        if self._is_whole:  # a second answer to one request
            self._keeps_alive = False

    def on_message_complete(self) -> None:
        if self._head is not None:
            self._is_whole = True

    def _pass_on(self, head: AnswerHead) -> None:
        if self._head_is_new:
            self._head_is_new = False
            assert self.sink is not None  # noqa: S101 - looked at by both callers
            self.sink.on_head(head)
        sink, pieces = self.sink, self._pieces
        is_whole = self._is_whole
        if is_whole and sink is not None:
            self._give_back()
        if pieces:
            data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            pieces.clear()
            if sink is not None:
                sink.on_data(data, is_whole)
        elif is_whole and sink is not None:
            sink.on_data(b"", True)

    def _give_back(self) -> None:
        self.sink = None
        self._was_used = True
        if self._keeps_alive and self.is_usable:
            self.resume()
            self._pool.give_back(self)
        else:
            self.close()

    def _lose(self, fault: Fault) -> None:
        sink = self.sink
        self.close()
        if sink is not None:
            sink.on_lost(fault)


class EnginePool:
    """The connections to one engine."""

    def __init__(self, url: str, connect_timeout_s: float) -> None:
        parts = urlsplit(url)
        is_secret = parts.scheme == "https"
        self._address = (parts.hostname or "", parts.port or (443 if is_secret else 80))
        self._ssl = ssl.create_default_context() if is_secret else None
        self._connect_timeout_s = connect_timeout_s
        self._free: deque[EngineConnection] = deque()
        self.host = parts.netloc.encode()

    def take(self) -> EngineConnection | None:
        """A connection that is open and free, the one used last first; None if a new one has to be opened."""
        while self._free:
            connection = self._free.pop()
            if connection.is_usable:
                return connection
        return None

    def open(self, then: Callable[[EngineConnection | None], None]) -> asyncio.Task[None]:
        """Open a new one; *then* is told it, or None if the engine cannot be reached. Cancelling the task stops it."""
        return asyncio.create_task(self._open(then))

    async def _open(self, then: Callable[[EngineConnection | None], None]) -> None:
        then(await self.connect())

    async def connect(self) -> EngineConnection | None:
        """A new connection, None if the engine cannot be reached."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                _, opened = await loop.create_connection(lambda: EngineConnection(self), *self._address, ssl=self._ssl)
        except (OSError, TimeoutError):
            return None
        return opened

    def give_back(self, connection: EngineConnection) -> None:
        """It is free again."""
        connection.idle_since = time.monotonic()
        self._free.append(connection)

    def forget(self, connection: EngineConnection) -> None:
        """It has ended."""
        if connection in self._free:
            self._free.remove(connection)

    def close_idle(self, before: float) -> None:
        """Close those that were not used since *before*."""
        while self._free and self._free[0].idle_since < before:
            self._free.popleft().close()


class EngineConnections:
    """The pools of all engines, by their address."""

    def __init__(self, connect_timeout_s: float) -> None:
        self._connect_timeout_s = connect_timeout_s
        self._pools: dict[str, EnginePool] = {}

    def of(self, url: str) -> EnginePool:
        """The pool of the engine at *url* (`http://host:port`)."""
        pool = self._pools.get(url)
        if pool is None:
            pool = self._pools[url] = EnginePool(url, self._connect_timeout_s)
        return pool

    def tidy(self, urls: Collection[str], now: float) -> None:
        """Close what was idle for long, and all idle ones of engines that are not among *urls* any more."""
        for url, pool in list(self._pools.items()):
            if url in urls:
                pool.close_idle(now - _IDLE_S)
            else:
                self._pools.pop(url).close_idle(math.inf)

    def close(self) -> None:
        """Close all idle ones."""
        self.tidy((), math.inf)
