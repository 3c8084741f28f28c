"""Errors as answers of the application: OpenAI's envelope, and the headers that go with it."""

from __future__ import annotations

import logging

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from gateway.edge.refusal import refusal_of
from gateway.errors import envelope
from gateway.http.meant_path import meant_path
from registry.contracts.known_fields import UNKNOWN_FIELD

log = logging.getLogger(__name__)


async def answer_error(_: Request, exc: Exception) -> Response:
    """Answer an error of the gateway or the registry, by the table `HTTP_ERRORS`."""
    refusal = refusal_of(exc)
    return Response(refusal.body, refusal.status, dict(refusal.headers), "application/json")


async def answer_invalid(_: Request, exc: Exception) -> JSONResponse:
    """Answer 400 for a body, query or path that does not fit its description."""
    assert isinstance(exc, RequestValidationError)  # noqa: S101 - registered for nothing else
    first = exc.errors()[0]
    where = [str(part) for part in first["loc"] if part not in ("body", "query", "path")]
    message = f"{'.'.join(where)}: {first['msg']}" if where else str(first["msg"])
    if first["type"] == UNKNOWN_FIELD:
        where.append(first["ctx"]["field"])
    field = ".".join(where)
    return JSONResponse(envelope(400, "invalid_request", message, field or None), 400)


async def answer_http(request: Request, exc: Exception) -> JSONResponse:
    """Answer an unknown endpoint, with the one that was meant, or an unknown method."""
    assert isinstance(exc, HTTPException)  # noqa: S101 - registered for nothing else
    code = {404: "unknown_url", 405: "method_not_allowed"}.get(exc.status_code)
    message = str(exc.detail)
    if code == "unknown_url":
        meant = meant_path(request.scope["path"])
        hint = f"; was {meant[:128]} meant? A client's base URL ends in /v1 once" if meant else ""
        message = f"no endpoint has the path {request.scope['path'][:128]!r}{hint}"
    return JSONResponse(envelope(exc.status_code, code, message), exc.status_code, exc.headers)


async def answer_unforeseen(request: Request, exc: Exception) -> JSONResponse:
    """Answer 500 for an unexpected exception, and log it."""
    log.error("unforeseen error", exc_info=exc, extra={"path": request.url.path})
    return JSONResponse(envelope(500, "internal_error", "internal error; the gateway's log has it"), 500)
