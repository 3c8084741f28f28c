"""The content type of a request's body, by the endpoint that reads it."""

from __future__ import annotations

from typing import Final

from fastapi import Request

from gateway.foreign_pages import BROWSERS_HEADERS, check_is_json, check_is_not_simple

_TAR: Final = "/admin/adapters/{name:path}/revisions"
_FORMS: Final = frozenset({"/v1/files", "/v1/uploads/{upload_id}/parts"})


async def check_content_type(request: Request) -> None:
    """Raise `UnsupportedMediaType` for a body that a page of another site could send without asking first."""
    headers = request.headers
    if headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers:
        return
    path, content_type = request.scope["route"].path, headers.get("content-type")
    is_from_browser = any(name.decode() in headers for name in BROWSERS_HEADERS)
    if path == _TAR:
        check_is_not_simple(content_type, is_from_browser=is_from_browser, right="application/x-tar")
    elif path not in _FORMS:
        check_is_json(content_type, is_from_browser=is_from_browser)
