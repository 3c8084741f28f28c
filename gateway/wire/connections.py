"""Connections to engines: kept open, one request at a time on each, without a task or a queue around them."""

from __future__ import annotations

import asyncio
import math
import ssl
import time
from collections import deque
from collections.abc import Callable
from typing import Final, cast
from urllib.parse import urlsplit

import httptools

from engines.address import authorization_of
from gateway.wire.dead_hosts import is_dead_host, notice_dead_host
from gateway.wire.engine_answer import AnswerHead, AnswerSink, Fault, Requester

_LARGEST_HEAD: Final = 64 * 1024


class EngineConnection(asyncio.Protocol):
    """A connection to an engine; it returns to its pool by itself when an answer is whole."""

    def __init__(self, pool: EnginePool) -> None:
        self._pool = pool
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport
        self._requester: Requester | None = None
        """The sender of the request that is under way."""
        self._sink: AnswerSink | None = None
        """Where its answer goes, from the answer's head on."""
        self.idle_since = 0.0
        self._was_used = False
        self._is_open = False
        self._headers: dict[bytes, bytes] = {}
        self._head_bytes = 0
        self._head: AnswerHead | None = None
        self._keeps_alive = False
        self._is_chunked = False
        self._is_whole = False
        self._is_chunk_whole = self._is_between_chunks = False
        """The last chunk that the parser saw is complete; and nothing came behind it."""
        self._is_paused = False
        self._pieces: list[bytes] = []

    def send(self, requester: Requester, request: bytes) -> None:
        """Send a whole request whose answer's head goes to *requester*."""
        self._requester = requester
        self._head = None
        self._head_bytes = 0
        self._is_whole = self._is_chunk_whole = self._is_between_chunks = False
        self._transport.write(request)

    def close(self) -> None:
        """End the connection now, and with it what the engine generates for it."""
        # The receivers go first, so that the loss of the connection, which `abort` brings, is reported to nobody.
        self._requester = self._sink = None
        self._is_open = False
        self._transport.abort()

    def pause(self) -> None:
        """Read no more until `resume`; without effect once the answer is whole."""
        if self._requester is None:
            return  # the connection is free for the next request, whose answer would never be read
        self._is_paused = True
        self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self._is_paused:
            self._is_paused = False
            self._transport.resume_reading()

    @property
    def is_usable(self) -> bool:
        """The connection is open, so that a request may be sent."""
        return self._is_open and not self._transport.is_closing()

    @property
    def is_busy(self) -> bool:
        """A request was sent whose answer is not whole."""
        return self._requester is not None

    # called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._is_open = True

    def data_received(self, data: bytes) -> None:
        if self._requester is None:
            self.close()  # bytes that no request asked for would be taken for the next one's answer
            return
        if self._is_between_chunks and self._sink is not None:
            # A stream's read is nearly always one chunk of whole events: the parser would find nothing else in it, and
            # is between two chunks afterwards as it was before.
            size = len(data) - data.find(b"\r\n") - 4
            if data.startswith(b"%x\r\n" % size) and data.endswith(b"\n\n\r\n") and self._sink.on_chunk(data):
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
        elif self._sink is None or self._is_whole:
            self._pass_on(self._head)
        elif self._pieces:  # the chunks of a stream go this short way
            pieces, self._pieces = self._pieces, []
            self._sink.on_data(pieces[0] if len(pieces) == 1 else b"".join(pieces), False)
        self._is_between_chunks = self._is_chunk_whole and data.endswith(b"\r\n")

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_open = False
        self._pool.forget(self)
        head = self._head
        if self._requester is None:
            return
        # A body without length and chunks lasts until the connection's orderly end (RFC 9112, 6.3); a reset cuts it.
        if head is not None and exc is None and head.length is None and not self._keeps_alive and not self._is_chunked:
            self._is_whole = True  # the end of the connection is the end of such a body
            self._pass_on(head)
        else:
            # an engine may close an idle connection just when a request is sent on it: that request is sent again
            is_stale = self._was_used and head is None and not self._head_bytes and not is_dead_host(exc)
            self._lose(Fault.STALE if is_stale else Fault.CUT)

    # called by the parser

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        headers, self._headers = self._headers, {}
        # An interim answer (1xx) comes before the final one and has no body (RFC 9110, 15.2).
        if status < 200 or self._is_whole:
            return
        length = headers.get(b"content-length")
        self._is_chunked = b"transfer-encoding" in headers
        self._keeps_alive = self._parser.should_keep_alive()
        self._head = AnswerHead(
            status=status,
            content_type=headers.get(b"content-type", b""),
            retry_after=headers.get(b"retry-after", b""),
            length=None if length is None else int(length),
        )

    def on_body(self, body: bytes) -> None:
        if not self._is_whole:
            self._pieces.append(body)

    def on_chunk_header(self) -> None:
        self._is_chunk_whole = False

    def on_chunk_complete(self) -> None:
        self._is_chunk_whole = True

    def on_message_begin(self) -> None:
        if self._is_whole:  # a second answer to one request
            self._keeps_alive = False

    def on_message_complete(self) -> None:
        if self._head is not None:
            self._is_whole = True

    def _pass_on(self, head: AnswerHead) -> None:
        """Report the head if it is new, then the bytes that came with it or after it."""
        if self._sink is None:
            assert self._requester is not None  # noqa: S101 - both callers have looked
            self._sink = self._requester.on_head(head)
        sink, pieces = self._sink, self._pieces
        self._pieces = []
        if sink is None:
            return
        is_whole = self._is_whole
        if is_whole:
            self._give_back()  # first, so that a request which the sink sends finds this connection free
        if pieces or is_whole:
            sink.on_data(pieces[0] if len(pieces) == 1 else b"".join(pieces), is_whole)

    def _give_back(self) -> None:
        self._requester = self._sink = None
        self._was_used = True
        if self._keeps_alive and self.is_usable:
            # A connection that went back paused would never read its next answer.
            if self._is_paused:
                self.resume()
            self._pool.give_back(self)
        else:
            self.close()

    def _lose(self, fault: Fault) -> None:
        listener = self._sink or self._requester
        self.close()
        if listener is not None:
            listener.on_lost(fault)


class EnginePool:
    """The connections to one engine."""

    def __init__(self, url: str, connect_timeout_s: float, *, has_key: bool = True) -> None:
        """Without the key that the engine wants, no connection is made."""
        self._has_key = has_key
        parts = urlsplit(url)
        is_secret = parts.scheme == "https"
        self._address = (parts.hostname or "", parts.port or (443 if is_secret else 80))
        self._ssl = ssl.create_default_context() if is_secret else None
        self._connect_timeout_s = connect_timeout_s
        self._free: deque[EngineConnection] = deque()
        self._host = parts.netloc.rpartition("@")[2].encode()
        self._lines = b"".join(b"%b: %b\r\n" % (k.encode(), v.encode()) for k, v in authorization_of(url).items())
        """Header lines of every request: how the engine knows us."""
        self._is_retired = False

    def post(self, path: str, lines: bytes, body: bytes) -> bytes:
        """Return a whole POST to this engine, with header *lines* of ours."""
        return b"POST %b HTTP/1.1\r\nhost: %b\r\n%bcontent-length: %d\r\n\r\n%b" % (
            path.encode(),
            self._host,
            self._lines + lines,
            len(body),
            body,
        )

    def get(self, path: str) -> bytes:
        """Return a whole GET to this engine."""
        return b"GET %b HTTP/1.1\r\nhost: %b\r\n%b\r\n" % (path.encode(), self._host, self._lines)

    def pop_free(self) -> EngineConnection | None:
        """Return a connection that is open and free, the one used last first; None if a new one has to be opened."""
        while self._free:
            connection = self._free.pop()
            if connection.is_usable:
                return connection
        return None

    def open(self, then: Callable[[EngineConnection | None], None]) -> asyncio.Task[None]:
        """Open a connection and call *then* with it, or with None if the engine cannot be reached; may be cancelled."""
        return asyncio.create_task(self._open(then))

    async def _open(self, then: Callable[[EngineConnection | None], None]) -> None:
        then(await self.connect())

    async def connect(self) -> EngineConnection | None:
        """Return a new connection, None if the engine cannot be reached or would refuse us."""
        if not self._has_key:
            return None
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                link, opened = await loop.create_connection(
                    lambda: EngineConnection(self), *self._address, ssl=self._ssl
                )
            notice_dead_host(link)
        # A ValueError is of a host that is no name: an engine that was entered by hand may have any.
        except (OSError, TimeoutError, ValueError):
            return None
        return opened

    def give_back(self, connection: EngineConnection) -> None:
        """Keep a connection that is free again."""
        if self._is_retired:
            connection.close()
            return
        connection.idle_since = time.monotonic()
        self._free.append(connection)

    def retire(self) -> None:
        """Close the free connections, and each of the others when its answer is whole: the engine has gone."""
        self._is_retired = True
        self.close_idle(math.inf)

    def forget(self, connection: EngineConnection) -> None:
        """Drop a connection that has ended."""
        if connection in self._free:
            self._free.remove(connection)

    def close_idle(self, before: float) -> None:
        """Close the connections that were not used since *before*."""
        # `pop_free` uses the right end, so the left end has been idle for longest.
        while self._free and self._free[0].idle_since < before:
            self._free.popleft().close()
