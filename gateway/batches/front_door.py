"""This gateway's own front door for its batches: requests as clients send them, over connections inside the process.

A request of a batch passes everything that a client's passes: its key, limits, queue, routes, retries and counts.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Any, Final

import httptools
import uvicorn
from uvicorn.server import ServerState

from gateway.batches.records import LineAnswer
from gateway.batches.retrying import leaves_s
from gateway.edge.parts import Gateway
from gateway.edge.protocol import EdgeProtocol

_READ_BYTES: Final = 1 << 16


class FrontDoor:
    """Asks this gateway, over as many connections as requests are under way."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._config = uvicorn.Config(_no_application, ws="none", log_config=None, access_log=False, lifespan="off")
        self._state = ServerState()
        self._free: list[_Connection] = []

    async def ask(self, path: str, body: bytes, headers: Sequence[tuple[str, bytes]]) -> LineAnswer:
        """Return the answer; its status is 0 if it broke off. A caller that is cancelled cuts the request off."""
        connection = self._free.pop() if self._free else await self._connect()
        is_kept = False
        try:
            answer, is_kept = await connection.ask(path, body, headers)
            return answer
        finally:
            if is_kept:
                self._free.append(connection)
            else:
                connection.close()

    def close(self) -> None:
        """Close the connections that are free."""
        while self._free:
            self._free.pop().close()

    async def _connect(self) -> _Connection:
        inner, outer = socket.socketpair()
        loop = asyncio.get_running_loop()
        await loop.connect_accepted_socket(self._protocol, inner)
        return _Connection(*await asyncio.open_unix_connection(sock=outer))

    def _protocol(self) -> EdgeProtocol:
        return EdgeProtocol(self._gateway, self._config, self._state, {})


class _Connection:
    """A connection on which one request after the other is sent."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, path: str, body: bytes, headers: Sequence[tuple[str, bytes]]) -> tuple[LineAnswer, bool]:
        """Return the answer, and whether another request may follow."""
        lines = b"".join(b"%b: %b\r\n" % (name.encode(), value) for name, value in headers)
        head = b"POST %b HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
        self._writer.write(head % (path.encode(), len(body)) + lines + b"\r\n" + body)
        reading = _Reading()
        try:
            while not reading.is_whole:
                data = await self._reader.read(_READ_BYTES)
                if not data:
                    return LineAnswer(status=0, request_id="", retry_after_s=None, body=b""), False
                reading.parser.feed_data(data)
        except (OSError, httptools.HttpParserError):
            return LineAnswer(status=0, request_id="", retry_after_s=None, body=b""), False
        return reading.answer(), reading.keeps_alive

    def close(self) -> None:
        """Close it, which cuts off what is under way."""
        self._writer.close()


class _Reading:
    """An answer as it comes, called by the parser."""

    def __init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.is_whole = False
        self.keeps_alive = False
        self._status = 0
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        self._status = self.parser.get_status_code()

    def on_body(self, data: bytes) -> None:
        self._body.append(data)

    def on_message_complete(self) -> None:
        if self._status >= 200:
            self.is_whole = True
            self.keeps_alive = self.parser.should_keep_alive()

    def answer(self) -> LineAnswer:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in self._headers.items()}
        retry_after = headers.get("retry-after", "")
        return LineAnswer(
            status=self._status,
            request_id=headers.get("x-request-id", ""),
            retry_after_s=float(retry_after) if retry_after.isdigit() else None,
            body=b"".join(self._body),
            leaves_s=leaves_s(headers),
        )


async def _no_application(scope: Any, receive: Any, send: Any) -> None:
    """Stand for an application, which no path of a batch reaches."""
    raise RuntimeError(f"{scope.get('path')} is not a path of batches")
