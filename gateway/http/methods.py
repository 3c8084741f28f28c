"""Methods that every server has: HEAD wherever GET is, and OPTIONS; plain ASGI."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.responses import Response
from starlette.routing import compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.routing.paths import HOT_PATHS

_ALL: Final = ("DELETE", "GET", "HEAD", "OPTIONS", "POST", "PUT")


class MethodTable:
    """Which methods each path takes; a path that is in two routes takes those of both."""

    def __init__(self, routers: Iterable[APIRouter]) -> None:
        routes = (route for router in routers for route in router.routes if isinstance(route, APIRoute))
        self._routes: Sequence[tuple[re.Pattern[str], frozenset[str]]] = [
            (compile_path(route.path)[0], frozenset(route.methods or ()))
            for route in routes
            if route.path.encode() not in HOT_PATHS
        ]

    def of(self, path: str) -> list[str]:
        """Return the methods in alphabetical order, none for a path that no endpoint has."""
        if path == "*":  # the server as a whole (RFC 9110, 9.3.7)
            return list(_ALL)
        if path.encode() in HOT_PATHS:
            return ["OPTIONS", "POST"]
        found = {method for pattern, methods in self._routes if pattern.match(path) for method in methods}
        if "GET" in found:
            found.add("HEAD")
        return sorted(found | {"OPTIONS"}) if found else []


class Methods:
    """Middleware that answers OPTIONS, without a key, and has HEAD answered as GET; uvicorn sends no body then.

    An answer whose body is costly to make looks at `state.is_head`.
    """

    def __init__(self, app: ASGIApp, table: MethodTable) -> None:
        self._app = app
        self._table = table

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "OPTIONS" and (allowed := self._table.of(scope["path"])):
            await Response(status_code=204, headers={"allow": ", ".join(allowed)})(scope, receive, send)
            return
        if scope["method"] == "HEAD":
            scope = {**scope, "method": "GET", "state": {**scope.get("state", {}), "is_head": True}}

        async def send_with_methods(message: Message) -> None:
            # The application names the methods of the first route alone that has the path.
            if message["type"] == "http.response.start" and message["status"] == 405:
                message = {**message, "headers": _with_allow(message["headers"], self._table.of(scope["path"]))}
            await send(message)

        await self._app(scope, receive, send_with_methods)


def _with_allow(headers: Iterable[tuple[bytes, bytes]], allowed: Sequence[str]) -> list[tuple[bytes, bytes]]:
    kept = [header for header in headers if header[0] != b"allow"]
    return [*kept, (b"allow", ", ".join(allowed).encode())]
