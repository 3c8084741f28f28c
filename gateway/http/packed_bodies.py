"""Packed bodies (`content-encoding`) of requests to the application; plain ASGI."""

from __future__ import annotations

import asyncio

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.edge.unpacking import unpack
from gateway.errors import BodyTooLarge, GatewayError, RequestTooSlow
from gateway.http.error_answers import answer_error
from gateway.settings import GatewaySettings

_REPLACED = (b"content-encoding", b"content-length", b"transfer-encoding")


class PackedBodies:
    """Middleware that hands packed bodies on unpacked; they are held in memory, so both forms have a limit."""

    def __init__(self, app: ASGIApp, settings: GatewaySettings) -> None:
        self._app = app
        self._limit = settings.max_body_bytes
        self._wait_s = settings.receive_timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 400, 413 or 415."""
        encodings = Headers(scope=scope).get("content-encoding") if scope["type"] == "http" else None
        if encodings is None:
            await self._app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(self._wait_s):
                packed = await self._whole(receive)
            if packed is None:
                return
            body = await asyncio.to_thread(unpack, packed, encodings, self._limit)
        except (GatewayError, TimeoutError) as exc:
            if isinstance(exc, TimeoutError):
                exc = RequestTooSlow("the request did not arrive in time")
            await (await answer_error(Request(scope), exc))(scope, receive, send)
            return
        kept = [header for header in scope["headers"] if header[0] not in _REPLACED]
        scope = {**scope, "headers": [*kept, (b"content-length", str(len(body)).encode())]}
        whole: Message = {"type": "http.request", "body": body, "more_body": False}
        messages = iter([whole])

        async def receive_unpacked() -> Message:
            return next(messages, None) or await receive()

        await self._app(scope, receive_unpacked, send)

    async def _whole(self, receive: Receive) -> bytes | None:
        """Return the packed body, None if the client left before its end; `BodyTooLarge`."""
        parts, size, more = [], 0, True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return None
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self._limit:
                raise BodyTooLarge(f"a packed body may have {self._limit} bytes; send larger ones plain")
            more = message.get("more_body", False)
        return b"".join(parts)
