"""Errors as answers of the application: OpenAI's envelope, and the headers that go with it."""

from __future__ import annotations

import errno
import logging
from collections.abc import Mapping
from typing import Any, Final

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from gateway.edge.refusal import refusal_of
from gateway.errors import envelope
from gateway.http.meant_path import meant_path
from registry.contracts.known_fields import UNKNOWN_FIELD
from registry.errors import StorageFull

log = logging.getLogger(__name__)

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_WANTED: Final[Mapping[str, str]] = {
    "dict": "an object",
    "mapping": "an object",
    "model": "an object",
    "dataclass": "an object",
    "list": "a list",
    "tuple": "a list",
    "set": "a list",
    "frozen_set": "a list",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "a string",
}
"""First part of the type of pydantic's errors -> what the value must be, in the words of JSON."""


async def answer_error(_: Request, exc: Exception) -> Response:
    """Answer an error of the gateway or the registry, by the table `HTTP_ERRORS`."""
    refusal = refusal_of(exc)
    return Response(refusal.body, refusal.status, dict(refusal.headers), "application/json")


async def answer_invalid(_: Request, exc: Exception) -> JSONResponse:
    """Answer 400 for a body, query or path that does not fit its description."""
    assert isinstance(exc, RequestValidationError)  # noqa: S101 - registered for nothing else
    first, *others = exc.errors()
    where = _place_of(first, exc.body)
    wanted = [_wanted(first), *(_wanted(other) for other in others if _place_of(other, exc.body) == where)]
    # A field that may be of several types has an error for each.
    types = list(dict.fromkeys(name for name in wanted if name is not None))
    text = _text_of(first) if None in wanted else f"must be {' or '.join(types)}"
    message = f"{'.'.join(where)}: {text}" if where else f"the body {text}" if wanted[0] else text
    if first["type"] == UNKNOWN_FIELD:
        where.append(first["ctx"]["field"])
    field = ".".join(where)
    return JSONResponse(envelope(400, "invalid_request", message, field or None), 400)


def _wanted(error: Mapping[str, Any]) -> str | None:
    """Return what a value of another type should have been; None for any other error."""
    kind = str(error["type"])
    if kind.endswith("_parsing_size"):
        return "a whole number of fewer digits"
    name, _, ending = kind.rpartition("_")
    name = "model" if kind == "model_attributes_type" else "int" if kind == "int_from_float" else name
    return _WANTED.get(name) if ending in ("type", "parsing", "float") else None


def _text_of(error: Mapping[str, Any]) -> str:
    text = str(error["msg"]).removeprefix("Value error, ")
    return "must be a file: a part of the form with a filename" if "UploadFile" in text else text


def _place_of(error: Mapping[str, Any], body: object) -> list[str]:
    """Return the names on the way to the value at fault, without those of the types that were tried for it."""
    source, *parts = error["loc"]
    if source != "body":
        return [str(part) for part in parts]
    where: list[str] = []
    at: Any = body
    for part in parts:
        is_inside = part in at if isinstance(at, Mapping) else isinstance(at, list) and part in range(len(at))
        if is_inside:
            at = at[part]
        if is_inside or (error["type"] == "missing" and part == parts[-1]):
            where.append(str(part))
    return where


async def answer_http(request: Request, exc: Exception) -> Response:
    """Answer an unknown endpoint, with the one that was meant, an unknown method, or a form that cannot be read."""
    assert isinstance(exc, HTTPException)  # noqa: S101 - registered for nothing else
    if isinstance(exc.__cause__, OSError):
        return await answer_os_error(request, exc.__cause__)
    code = {404: "unknown_url", 405: "method_not_allowed"}.get(exc.status_code)
    message = str(exc.detail)
    if code == "unknown_url":
        meant = meant_path(request.scope["path"])
        hint = f"; was {meant[:128]} meant? A client's base URL ends in /v1 once" if meant else ""
        message = f"no endpoint has the path {request.scope['path'][:128]!r}{hint}"
    elif code == "method_not_allowed":
        message = f"the path {request.scope['path'][:128]!r} takes no {request.method[:16]}; `allow` names its methods"
    return JSONResponse(envelope(exc.status_code, code, message), exc.status_code, exc.headers)


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
