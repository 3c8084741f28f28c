"""`/docs` and `/openapi.json`: the API as a page without scripts and foreign files, and as a document for programs."""

from __future__ import annotations

import asyncio
import hashlib
import json
from base64 import b64encode
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import jinja2
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import HTMLResponse, Response

from gateway.http.description.openapi import TAGS, describe

router = APIRouter(include_in_schema=False)

_STYLE: Final = (Path(__file__).parent / "docs_page.css").read_text()
_TEMPLATE: Final = Path(__file__).parent / "docs_page.html.jinja"
_STYLE_HASH: Final = b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Content-Security-Policy of the page: its own style, and nothing else."""
_HEADERS: Final = {"content-security-policy": POLICY, "x-content-type-options": "nosniff"}


class ApiDocuments:
    """The description of an application as JSON and as a page; made once, when it is first asked for."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    @cached_property
    def texts(self) -> tuple[bytes, str]:
        """The document and the page; takes about a second the first time, so ask in a thread."""
        described = describe(self._app)
        return json.dumps(described).encode(), _page(described)


async def _texts(request: Request) -> tuple[bytes, str]:
    documents: ApiDocuments = request.app.state.api_documents
    return await asyncio.to_thread(lambda: documents.texts)


@router.get("/openapi.json")
async def openapi_document(request: Request) -> Response:
    """Send the OpenAPI description of every endpoint."""
    document, _ = await _texts(request)
    return Response(document, media_type="application/json")


@router.get("/docs")
async def docs_page(request: Request) -> HTMLResponse:
    """Send the description as a page."""
    _, page = await _texts(request)
    return HTMLResponse(page, headers=_HEADERS)


def _page(described: dict[str, Any]) -> str:
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["kind"] = kind_of
    operations = [
        {"method": method.upper(), "path": path, **operation}
        for path, methods in described["paths"].items()
        for method, operation in methods.items()
    ]
    groups = [
        (tag, text, [operation for operation in operations if operation["tags"] == [tag]]) for tag, text in TAGS.items()
    ]
    return environment.from_string(_TEMPLATE.read_text()).render(
        style=_STYLE,
        about=described["info"],
        groups=groups,
        schemas=described["components"]["schemas"],
    )


def kind_of(schema: dict[str, Any]) -> str:
    """Return a schema in a few words: `string`, `list of ChatMessage`, `number or null`, `"stop"`."""
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    choices = schema.get("anyOf") or schema.get("oneOf")
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if choices:
        return " or ".join(dict.fromkeys(kind_of(each) for each in choices))
    if values:
        return " or ".join(json.dumps(each) for each in values)
    return _container(schema) or str(schema.get("type", "any"))


def _container(schema: dict[str, Any]) -> str | None:
    """Return `list of string` and `object of number`, None for what holds nothing else."""
    if schema.get("type") == "array":
        return f"list of {kind_of(schema.get('items', {}))}"
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {kind_of(schema['additionalProperties'])}"
    return None
