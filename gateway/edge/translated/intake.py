"""The intake of a request whose body is translated first: from there on it is a request of another path."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from secrets import token_hex
from types import MappingProxyType
from typing import Any, Final

import orjson

from gateway.dialects.dialect import Arrival, Dialect, Needed, Translation
from gateway.edge.http_message import body_of
from gateway.edge.intake import RequestIntake
from gateway.edge.parts import Gateway
from gateway.edge.turn import Turn
from gateway.errors import EngineLacks, InvalidRequest, PreviousResponseNotFound
from gateway.routing.paths import PathKind
from registry.errors import NotFound, NotStorable
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
            return self._translate(request)
        return self._wait(self._stored(needed), lambda stored: self._translate(request, *stored))

    async def _stored(self, needed: Needed) -> tuple[tuple[StoredResponse, ...], Mapping[str, StoredResponse]]:
        gateway, tenant = self._gateway, self.caller.tenant
        store = gateway.registry.responses
        others = await gateway.ask(store.those_of, tenant, needed.others) if needed.others else {}
        if needed.previous is None:
            return (), others
        try:
            return await gateway.ask(store.chain, tenant, needed.previous), others
        except NotFound as exc:
            raise _missing(str(exc)) from exc
        except NotStorable as exc:  # an id with a NUL, which PostgreSQL cannot even look for
            raise _missing(needed.previous) from exc

    def _translate(
        self,
        request: Mapping[str, Any],
        earlier: tuple[StoredResponse, ...] = (),
        referenced: Mapping[str, StoredResponse] = MappingProxyType({}),
    ) -> bool:
        arrival = Arrival(time.time(), token_hex(_TOKEN_BYTES), earlier, referenced)
        self.translation = self._dialect.translate(request, arrival)
        try:
            raw = orjson.dumps(self.translation.body)
        except orjson.JSONEncodeError as exc:
            raise InvalidRequest("the body has a number beyond 64 bits, a broken text, or too deep nesting") from exc
        return super()._read(raw)

    def _check_form(self) -> None:
        try:
            super()._check_form()
        except EngineLacks as exc:
            raise in_asked_terms(exc, self.translation.asked_field) from exc


def in_asked_terms(error: EngineLacks, asked_field: Callable[[str], str]) -> EngineLacks:
    """Return the error with the field at fault as the client knows it."""
    field = error.param or ""
    named = asked_field(field)
    return type(error)(named + error.message.removeprefix(field), param=named)


def _missing(response_id: str) -> PreviousResponseNotFound:
    return PreviousResponseNotFound(
        f"Previous response with id {response_id[:64]!r} not found.", param="previous_response_id"
    )
