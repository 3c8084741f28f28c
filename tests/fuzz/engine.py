"""An engine that answers every request at once, whole or as a stream; every eighth one with an error of its own."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import Final

_MESSAGE: Final = b'{"index":0,"message":{"role":"assistant","content":"hello"},"text":"hello","finish_reason":"stop"}'
_USAGE: Final = b'"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}'
_REFUSED: Final = (
    b'{"error":{"message":"max_tokens is too large","type":"invalid_request_error","param":"max_tokens","code":null}}'
)
GOOD: Final = b'"content":"good"'
"""Part of a body whose answer is never an error."""


class QuickEngine:
    """Listens on a free port of loopback once it is started."""

    url = ""

    def __init__(self) -> None:
        self._numbers = count(1)

    async def start(self) -> asyncio.Server:
        """Listen; the caller closes the server."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        return server

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = head.partition(b"content-length:")[2].partition(b"\r")[0]
                body = await reader.readexactly(int(length or b"0"))
                writer.write(self._answer(head, body))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def _answer(self, head: bytes, body: bytes) -> bytes:
        number = next(self._numbers)
        if head.startswith(b"get "):
            return _whole(200, b"text/plain", b"engine_requests_running 0.0\nengine_requests_waiting 0.0\n")
        if not number % 8 and GOOD not in body:
            return _whole(400, b"application/json", _REFUSED)
        made = b'{"id":"chatcmpl-%d","object":"chat.completion","model":"m","count":3,"choices":[%b],%b}' % (
            number,
            _MESSAGE,
            _USAGE,
        )
        if b'"stream":true' not in body:
            return _whole(200, b"application/json", made)
        event = b"data: %b\n\ndata: [DONE]\n\n" % made.replace(b'"message"', b'"delta"')
        return _whole(200, b"text/event-stream", event)


def _whole(status: int, kind: bytes, body: bytes) -> bytes:
    return b"HTTP/1.1 %d OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n%b" % (status, kind, len(body), body)
