"""Authentication of requests by API key and scope, before any byte of the body is read; plain ASGI."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as Connection

from gateway.edge.parts import Gateway
from gateway.errors import GatewayError
from gateway.http.absent_endpoints import instead_of
from gateway.http.error_answers import answer_error
from gateway.http.meant_path import meant_path
from gateway.keys.caller import credential_of
from gateway.objects.problems import WARNING_HEADER
from registry.errors import RegistryError
from registry.keys import Scope

OPEN: Final = frozenset({"/health", "/healthz", "/-/healthz", "/readyz"})
METRICS: Final = "/metrics"
KEY_UNCHECKED: Final = (
    "an API key was sent, but this gateway has no keys: nothing is checked, and everybody who reaches it may do "
    "everything; `lorry keys create` makes the first key"
)
ANY: Final = frozenset({Scope.INFERENCE, Scope.TRAINING, Scope.ADMIN})
_ADMIN: Final = frozenset({Scope.ADMIN})
SCOPES: Final[Sequence[tuple[str, frozenset[Scope]]]] = (
    ("/v1/models", ANY),
    ("/v1/files", frozenset({Scope.TRAINING, Scope.INFERENCE})),
    ("/v1/uploads", frozenset({Scope.TRAINING, Scope.INFERENCE})),
    ("/v1/batches", frozenset({Scope.INFERENCE, Scope.ADMIN})),
    ("/v1/fine_tuning/checkpoints", frozenset({Scope.TRAINING, Scope.ADMIN})),
    ("/v1/fine_tuning", frozenset({Scope.TRAINING})),
    ("/v1/", frozenset({Scope.INFERENCE})),
    ("/tokenize", frozenset({Scope.INFERENCE})),
    (METRICS, frozenset({Scope.METRICS, Scope.ADMIN})),
    ("/admin/files", frozenset({Scope.TRAINING, Scope.ADMIN})),
    ("/admin/data_reviews", frozenset({Scope.TRAINING, Scope.ADMIN})),
    ("/admin/evaluations", frozenset({Scope.TRAINING, Scope.ADMIN})),
    ("/admin/exports", frozenset({Scope.TRAINING, Scope.ADMIN})),
    ("/admin/archives", frozenset({Scope.TRAINING, Scope.ADMIN})),
    ("/admin/merges", frozenset({Scope.TRAINING, Scope.ADMIN})),
    ("/admin/quantizations", frozenset({Scope.TRAINING, Scope.ADMIN})),
    ("/admin/ids", frozenset({Scope.INFERENCE, Scope.TRAINING, Scope.ADMIN})),
)
"""Prefix of a path -> the scopes that open it (any of them); the first match counts, other paths need admin."""


def scopes_of(path: str) -> frozenset[Scope]:
    """Return the scopes that open *path*; a caller needs one of them."""
    for beginning, scopes in SCOPES:
        if path.startswith(beginning):
            return scopes
    # A client with a wrong base URL, or of another API, is to read its hint and not that its key lacks a scope.
    is_admin = path.startswith("/admin") or (meant_path(path) is None and instead_of(path) is None)
    return _ADMIN if is_admin else ANY


class Authentication:
    """Middleware that stores the `Caller` in `state.caller` for the handlers, or answers 401 or 403.

    Requests of pages of other sites are refused, see `gateway.foreign_pages`.
    """

    def __init__(self, app: ASGIApp, gateway: Gateway) -> None:
        self._app = app
        self._keyring = gateway.keyring
        self._page_guard = gateway.page_guard
        self._metrics_need_key = gateway.settings.metrics_need_key

    async def __call__(self, connection: Connection, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 401 or 403."""
        if connection["type"] == "http" and connection["path"] not in OPEN:
            try:
                self._let_in(connection)
            except (GatewayError, RegistryError) as exc:
                answer = await answer_error(Request(connection), exc)
                await answer(connection, receive, send)
                return
            if self._keyring.is_keyless and _credential_in(connection):
                send = _with_warning(send)
        await self._app(connection, receive, send)

    def _let_in(self, connection: Connection) -> None:
        headers, path = Headers(scope=connection), connection["path"]
        scopes, is_keyless = scopes_of(path), self._keyring.is_keyless
        # With keys a page of another site can do nothing: it has none. The admin endpoints do not rely on that alone.
        if is_keyless or path.startswith("/admin") or (path != METRICS and scopes == _ADMIN):
            seen = (_bytes(headers.get(name)) for name in ("host", "origin", "sec-fetch-site"))
            self._page_guard.check(*seen, is_keyless=is_keyless)
        if path == METRICS and not self._metrics_need_key:
            return
        caller = self._keyring.caller_of(_credential_in(connection), time.time())
        self._keyring.check(caller, *scopes)
        connection.setdefault("state", {})["caller"] = caller


def _bytes(value: str | None) -> bytes | None:
    return None if value is None else value.encode("latin-1")


def _credential_in(connection: Connection) -> bytes:
    headers = Headers(scope=connection)
    return credential_of(
        _bytes(headers.get("authorization")), _bytes(headers.get("x-api-key")), _bytes(headers.get("api-key"))
    )


def _with_warning(send: Send) -> Send:
    """Return *send* with a header that warns the sender of a key that no key is checked."""

    async def send_warned(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message)[WARNING_HEADER] = KEY_UNCHECKED
        await send(message)

    return send_warned
