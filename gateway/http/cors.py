"""Answers to pages of other origins: Starlette's middleware with the origins of `cors_origins`."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

from gateway.edge.refusal import refusal_of
from gateway.errors import OriginNotAllowed
from gateway.origins import EXPOSED_HEADERS


class Cors(CORSMiddleware):
    """Answers preflights, which carry no key, and adds the headers of allowed origins to the application's answers."""

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=["*"],
            allow_headers=["*"],
            allow_private_network=True,  # a page that is named in the settings may also ask a gateway on loopback
            expose_headers=EXPOSED_HEADERS,
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """Answer a preflight; 403 in OpenAI's envelope for an origin that is not allowed."""
        origin = request_headers["origin"]
        if self.is_allowed_origin(origin):
            return super().preflight_response(request_headers)
        refusal = refusal_of(
            OriginNotAllowed(
                f"pages of {origin[:256]!r} may not use this gateway; the setting [gateway] cors_origins lists who may"
            )
        )
        return Response(refusal.body, refusal.status, {"vary": "origin"}, "application/json")
