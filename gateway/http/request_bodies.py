"""Bounds of request bodies outside the hot path: their size, their time, and what JSON may hold; plain ASGI."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.edge.http_message import members_of
from gateway.edge.json_values import check_values
from gateway.errors import BodyTooLarge, GatewayError, InvalidRequest, RequestTooSlow
from gateway.http.error_answers import answer_error
from gateway.settings import GatewaySettings
from registry.files.upload import PART_BYTES

LARGEST_JSON: Final = 1 << 20
"""Bytes of a JSON body outside the hot path, where `max_body_bytes` is not less; the largest that is of use is a
fine-tuning job of some kilobytes."""
_FORM_BYTES: Final = 64 * 1024
"""Bytes that a form may have around the file in it."""
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class RequestBodies:
    """Middleware that refuses a body which is too large, too slow, or holds what no endpoint can take.

    A length that is announced is judged before any byte of the body is read. JSON is read whole and judged before its
    endpoint sees it; uploads are counted while their endpoint reads them.
    """

    def __init__(self, app: ASGIApp, settings: GatewaySettings) -> None:
        self._app = app
        self._wait_s = settings.receive_timeout_s
        self._upload_bytes = settings.max_upload_bytes
        self._json_bytes = min(settings.max_body_bytes, LARGEST_JSON)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its body within bounds, or answer 400, 408 or 413."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refused: list[GatewayError] = []
        most, is_upload = self._bounds_of(scope)
        try:
            _check_head(scope, most)
            if not is_upload:
                receive = await self._read_whole(scope, receive, most)
        except GatewayError as exc:
            await (await answer_error(Request(scope), exc))(scope, receive, send)
            return
        if not is_upload:
            await self._app(scope, receive, send)
            return
        counted = _Counted(receive, most, self._wait_s, refused.append)
        await self._app(scope, counted, _in_place_of(send, scope, receive, refused))

    def _bounds_of(self, scope: Scope) -> tuple[int, bool]:
        """Return how many bytes the body may have, and whether its endpoint reads it part by part."""
        path: str = scope["path"]
        if path == "/v1/files":
            return self._upload_bytes + _FORM_BYTES, True
        if path.startswith("/v1/uploads/") and path.endswith("/parts"):
            return PART_BYTES + _FORM_BYTES, True
        if path.startswith("/admin/adapters/") and path.endswith("/revisions"):
            return self._upload_bytes, True
        return self._json_bytes, False

    async def _read_whole(self, scope: Scope, receive: Receive, most: int) -> Receive:
        """Read the body, check it if it is JSON, and return what hands it to the endpoint."""
        counted = _Counted(receive, most, self._wait_s, lambda _: None)
        parts: list[bytes] = []
        try:
            async with asyncio.timeout(self._wait_s):
                while True:
                    message = await counted()
                    parts.append(message.get("body", b""))
                    if not message.get("more_body", False):
                        break
        except TimeoutError as exc:
            raise _too_slow() from exc
        body = b"".join(parts)
        if message["type"] != "http.disconnect" and _is_json(scope):
            body = body.removeprefix(_BYTE_ORDER_MARK)
            if body.strip() not in (b"", b"null"):  # no body, where a body may be left out
                check_values(members_of(body))
        waiting = [{**message, "body": body, "more_body": False} if message["type"] == "http.request" else message]

        async def hand_over() -> Message:
            return waiting.pop() if waiting else await receive()

        return hand_over


class _Counted:
    """Receives a body, and refuses it once it is too large or does not go on."""

    def __init__(self, receive: Receive, most: int, wait_s: float, note: Callable[[GatewayError], None]) -> None:
        self._receive = receive
        self._most = most
        self._wait_s = wait_s
        self._note = note
        self._size = 0
        self._is_whole = False

    async def __call__(self) -> Message:
        """Return the next part; `BodyTooLarge`, `RequestTooSlow`."""
        if self._is_whole:  # what is waited for now is the end of the connection
            return await self._receive()
        try:
            async with asyncio.timeout(self._wait_s):
                message = await self._receive()
        except TimeoutError as exc:
            raise self._noted(_too_slow()) from exc
        self._size += len(message.get("body", b""))
        if self._size > self._most:
            raise self._noted(_too_large(self._most))
        self._is_whole = not message.get("more_body", False)
        return message

    def _noted(self, error: GatewayError) -> GatewayError:
        self._note(error)
        return error


def _in_place_of(send: Send, scope: Scope, receive: Receive, refused: list[GatewayError]) -> Send:
    """Return what sends the application's answer, or the refusal where the parser of forms hid why it was cut off."""
    is_answered = False

    async def send_or_refuse(message: Message) -> None:
        nonlocal is_answered
        if not refused:
            await send(message)
        elif not is_answered:
            is_answered = True
            await (await answer_error(Request(scope), refused[0]))(scope, receive, send)

    return send_or_refuse


def _check_head(scope: Scope, most: int) -> None:
    if b"%00" in scope["raw_path"] or b"%00" in scope["query_string"]:
        raise InvalidRequest("the address has a NUL character (%00), which no name here has")
    length = Headers(scope=scope).get("content-length", "0")
    if length.isdecimal() and int(length[:20]) > most:  # 20 digits are beyond any bound
        raise _too_large(most)


def _is_json(scope: Scope) -> bool:
    """Whether an endpoint would read the body as JSON: FastAPI does so without a content type, too."""
    kind = Headers(scope=scope).get("content-type", "")
    return not kind or "json" in kind.lower()


def _too_large(most: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body is larger than {most} bytes")


def _too_slow() -> RequestTooSlow:
    return RequestTooSlow("the request did not arrive in time")
