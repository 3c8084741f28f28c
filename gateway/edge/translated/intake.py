"""The intake of a request whose body is translated first: from there on it is a request of another path."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from secrets import token_hex
from typing import Any, Final

import orjson

from gateway.dialects.dialect import Arrival, Dialect, Translation
from gateway.edge.http_message import body_of
from gateway.edge.intake import RequestIntake
from gateway.edge.parts import Gateway
from gateway.edge.turn import Turn
from gateway.errors import InvalidRequest, PreviousResponseNotFound
from gateway.routing.paths import PathKind
from registry.errors import NotFound
from registry.responses.types import StoredResponse

_TOKEN_BYTES: Final = 24


class TranslatedIntake(RequestIntake):
    """Reads a request of the kind *asked*, and lets it in as one of the kind of its turn."""

    translation: Translation
    """Set once the body is read."""

    def __init__(self, gateway: Gateway, turn: Turn, asked: PathKind, dialect: Dialect) -> None:
        super().__init__(gateway, turn)
        self._asked = asked
        self._dialect = dialect

    def _read(self, raw: bytes) -> bool:
        body = body_of(raw, self._asked, self._head)
        self.asked_name = body.model
        request = body.whole()
        needed = self._dialect.needs(request)
        if needed is None:
            return self._translate(request, ())
        return self._wait(self._chain(needed), partial(self._translate, request))

    async def _chain(self, response_id: str) -> tuple[StoredResponse, ...]:
        gateway = self._gateway
        try:
            return await gateway.ask(gateway.registry.responses.chain, self.caller.tenant, response_id)
        except NotFound as exc:
            message = f"Previous response with id {str(exc)[:64]!r} not found."
            raise PreviousResponseNotFound(message, param="previous_response_id") from exc

    def _translate(self, request: Mapping[str, Any], earlier: tuple[StoredResponse, ...]) -> bool:
        arrival = Arrival(time.time(), token_hex(_TOKEN_BYTES), earlier)
        self.translation = self._dialect.translate(request, arrival)
        try:
            raw = orjson.dumps(self.translation.body)
        except orjson.JSONEncodeError as exc:
            raise InvalidRequest("the body has a number beyond 64 bits, a broken text, or too deep nesting") from exc
        return super()._read(raw)
