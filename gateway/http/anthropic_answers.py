"""Errors outside the hot path in Anthropic's form, for clients that read it; plain ASGI."""

from __future__ import annotations

from typing import Final

import orjson
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.dialects.messages.dialect import MessagesDialect

_PATH: Final = "/v1/messages"
_VERSION: Final = "anthropic-version"
_DIALECT: Final = MessagesDialect()


class AnthropicAnswers:
    """Middleware that translates errors on Anthropic's paths and for its clients, and sends `request-id` there.

    `RequestIds` comes before it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; the body of an error waits until it is whole."""
        if scope["type"] != "http" or not _is_anthropics(scope):
            await self._app(scope, receive, send)
            return
        request_id: str = scope["state"]["request_id"]
        held: list[Message] = []
        body = b""

        async def send_translated(message: Message) -> None:
            nonlocal body
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["request-id"] = request_id
                if message["status"] >= 400:
                    held.append(message)
                    return
            elif held:
                body += message.get("body", b"")
                if message.get("more_body", False):
                    return
                start = held.pop()
                whole = _translated(start, body, request_id)
                await send(start)
                await send({"type": "http.response.body", "body": whole})
                return
            await send(message)

        await self._app(scope, receive, send_translated)


def _is_anthropics(scope: Scope) -> bool:
    path: str = scope["path"]
    return path == _PATH or path.startswith(f"{_PATH}/") or _VERSION in Headers(scope=scope)


def _translated(start: Message, body: bytes, request_id: str) -> bytes:
    """Return the *body* of an error translated, and give its head the new length and status."""
    try:
        envelope = orjson.loads(body)
    except orjson.JSONDecodeError:
        return body
    if not isinstance(envelope, dict) or "error" not in envelope:
        return body
    status, refused = _DIALECT.refusal(start["status"], envelope, request_id)
    whole = orjson.dumps(refused)
    start["status"] = status
    MutableHeaders(scope=start)["content-length"] = str(len(whole))
    return whole
