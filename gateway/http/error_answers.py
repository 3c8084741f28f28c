"""Errors as answers of the application: OpenAI's envelope, and the headers that go with it."""

from __future__ import annotations

import errno
import logging
from dataclasses import replace
from typing import Final

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from gateway.edge.refusal import refusal_of
from gateway.errors import envelope
from gateway.http.absent_endpoints import instead_of
from gateway.http.meant_path import meant_path
from registry.errors import StorageFull
from registry.wording.field_faults import FieldFault, fault_of

log = logging.getLogger(__name__)

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


async def answer_error(_: Request, exc: Exception) -> Response:
    """Answer an error of the gateway or the registry, by the table `HTTP_ERRORS`."""
    refusal = refusal_of(exc)
    return Response(refusal.body, refusal.status, dict(refusal.headers), "application/json")


async def answer_invalid(_: Request, exc: Exception) -> JSONResponse:
    """Answer 400 for a body, query or path that does not fit its description."""
    assert isinstance(exc, RequestValidationError)  # noqa: S101 - registered for nothing else
    fault = _fault_of(exc)
    message = fault.sentence
    if not fault.place and message.startswith(("must ", "is ")):
        message = f"the body {message}"
    return JSONResponse(envelope(400, "invalid_request", message, fault.field), 400)


def _fault_of(exc: RequestValidationError) -> FieldFault:
    """Return the fault in the body, or in the query or path, whose values have no names inside."""
    found = exc.errors()
    source = found[0]["loc"][0]
    errors = [{**error, "loc": error["loc"][1:]} for error in found if error["loc"][0] == source]
    given = exc.body if source == "body" else {error["loc"][0]: None for error in errors}
    fault = fault_of(errors, given)
    if "UploadFile" in fault.text:
        return replace(fault, text="must be a file: a part of the form with a filename")
    return fault


async def answer_http(request: Request, exc: Exception) -> Response:
    """Answer an unknown endpoint, with the one that was meant, an unknown method, or a form that cannot be read."""
    assert isinstance(exc, HTTPException)  # noqa: S101 - registered for nothing else
    if isinstance(exc.__cause__, OSError):
        return await answer_os_error(request, exc.__cause__)
    code = {404: "unknown_url", 405: "method_not_allowed"}.get(exc.status_code)
    message = str(exc.detail)
    if code == "unknown_url":
        message = f"no endpoint has the path {request.scope['path'][:128]!r}{_hint(request.scope['path'])}"
    elif code == "method_not_allowed":
        message = f"the path {request.scope['path'][:128]!r} takes no {request.method[:16]}; `allow` names its methods"
    return JSONResponse(envelope(exc.status_code, code, message), exc.status_code, exc.headers)


def _hint(path: str) -> str:
    """Return the end of a message about an unknown path: the path that was meant, or what there is instead."""
    if (meant := meant_path(path)) is not None:
        return (
            f"; was {meant[:128]} meant? A client's base URL ends in /v1 once, that of Anthropic's clients not at all"
        )
    instead = instead_of(path)
    return "" if instead is None else f"; {instead}"


async def answer_os_error(request: Request, exc: Exception) -> Response:
    """Answer 507 where the disk is full, else 500."""
    if isinstance(exc, OSError) and exc.errno in _FULL:
        log.error("no room on the disk for a request", extra={"path": request.url.path, "reason": exc.strerror})
        return await answer_error(request, StorageFull(f"the request could not be stored: {exc.strerror}"))
    return await answer_unforeseen(request, exc)


async def answer_departed(_: Request, __: Exception) -> Response:
    """Answer a client that left before its request was whole, which nobody reads."""
    return JSONResponse(envelope(400, "malformed_request", "the request ended before it was whole"), 400)


async def answer_unforeseen(request: Request, exc: Exception) -> JSONResponse:
    """Answer 500 for an unexpected exception, and log it."""
    log.error("unforeseen error", exc_info=exc, extra={"path": request.url.path})
    return JSONResponse(envelope(500, "internal_error", "internal error; the gateway's log has it"), 500)
