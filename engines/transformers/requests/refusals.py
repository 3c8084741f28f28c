"""Answers to requests that the server does not take, and the key that it wants."""

from __future__ import annotations

import hmac
import logging

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from engines.transformers.errors import ApiError, EngineFailed, MethodNotAllowed, NoSuchResource

logger = logging.getLogger(__name__)


class RequireKey:
    """Answers 401 unless the header `authorization` has the key."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        self._app = app
        self._wanted = f"Bearer {key}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] == "http" and scope["path"] != "/health" and not self._knows(scope):
            refusal = orjson.dumps({"error": {"message": "this server wants its key", "code": "invalid_api_key"}})
            await Response(refusal, 401, media_type="application/json")(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _knows(self, scope: Scope) -> bool:
        sent: bytes = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        return hmac.compare_digest(sent, self._wanted)


async def refuse(http: Request, exc: Exception) -> Response:
    """Answer with an `ApiError`; another exception is a fault of ours, and the client gets no details."""
    if isinstance(exc, ApiError):
        return json_response(exc.body, exc.status, exc.headers)
    logger.error("a request failed", exc_info=exc, extra={"path": http.url.path})
    return await refuse(http, EngineFailed("the engine failed", code="internal_error"))


async def refuse_route(http: Request, exc: Exception) -> Response:
    """Answer an unknown path or a wrong method in OpenAI's envelope."""
    status = exc.status_code if isinstance(exc, HTTPException) else 404
    wording = MethodNotAllowed if status == MethodNotAllowed.status else NoSuchResource
    return await refuse(http, wording(f"{http.method} {http.url.path} does not exist"))


def json_response(body: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Answer with *body* as JSON."""
    return Response(orjson.dumps(body), status_code=status, headers=headers, media_type="application/json")
