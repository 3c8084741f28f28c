"""A request of a dialect, from its whole body to the last byte of its answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.dialects.dialect import Refused
from gateway.edge.answer import AnswerPlan, RelayedAnswer
from gateway.edge.exchange import Exchange
from gateway.edge.http_message import RequestHead
from gateway.edge.parts import Gateway
from gateway.edge.refusal import Refusal, refusal_of, translated_refusal
from gateway.edge.translated.answer import NOT_AN_ANSWER, TranslatedAnswer, WayBack, with_field
from gateway.edge.translated.intake import TranslatedIntake
from gateway.edge.turn import Turn
from gateway.errors import EngineUnavailable
from gateway.routing.paths import HOT_PATHS, PathKind
from gateway.wire.engine_answer import AnswerHead, Requester
from registry.errors import RegistryError, RegistryUnavailable
from registry.responses.types import StoredResponse

log = logging.getLogger(__name__)

_LONGEST_STORING_S: Final = 10.0
"""How long the end of an answer waits for the registry to store it."""
_NOT_STORED: Final = "the answer was made but could not be stored, as `store: true` asks: the registry is away"


class TranslatedExchange(Exchange):
    """Gets one request of a dialect answered through the path that its kind names."""

    _translated: TranslatedAnswer | None = None
    _storing: asyncio.Task[None] | None = None

    def __init__(
        self,
        gateway: Gateway,
        connection: HttpToolsProtocol,
        on_over: Callable[[], None],
        head: RequestHead,
        kind: PathKind,
    ) -> None:
        super().__init__(gateway, connection, on_over, head, HOT_PATHS[kind.through.encode()])
        self._dialect = gateway.dialects[kind.path]
        self._intake = self._translating = TranslatedIntake(gateway, self, kind, self._dialect)
        self.sink = self._sink

    def refusal_for(self, error: Exception) -> Refusal:
        """Return *error* as the dialect has it."""
        return translated_refusal(refusal_of(error), self._refused_as)

    def _refused_as(self, status: int, envelope: Mapping[str, Any]) -> Refused:
        return self._dialect.refusal(status, envelope, self.head.request_id.decode())

    def _refused_by_engine(self, status: int, sent: Mapping[str, Any]) -> Refused:
        return self._refused_as(status, with_field(sent, self._translating.translation.asked_field))

    def _request_lines(self) -> bytes:
        return super()._request_lines() + self._dialect.head_lines(self.head.request_id)

    def _sink(self, turn: Turn, head: AnswerHead, plan: AnswerPlan, requester: Requester) -> RelayedAnswer:
        translator = self._translating.translation.begin()
        self._translated = TranslatedAnswer(WayBack(translator, self._refused_by_engine), turn, head, plan, requester)
        return self._translated

    def answered(self) -> None:
        """Store the answer where that is wanted, then write the last of it and end the turn."""
        answer = self._translated
        if self._is_over or answer is None:
            return
        if answer.is_garbled:
            self._give_garbled_up()
            return
        try:
            kept = answer.to_keep()
            if kept is None:
                answer.close(is_kept=False)
        except NOT_AN_ANSWER:
            self._give_garbled_up()
            return
        if kept is None:
            super().answered()
            return
        if self._attempts is not None:
            self._attempts.end()  # its replica is free while the registry writes
        self._storing = asyncio.create_task(self._store(kept))
        self._storing.add_done_callback(self._stored)

    def _give_garbled_up(self) -> None:
        assert self._attempts is not None and self._translated is not None  # noqa: S101 - an engine has answered
        log.warning("an engine's answer cannot be translated", extra={"replica": self._attempts.replica})
        if self._translated.has_begun:
            self._attempts.stop()
            self.broke()
        else:
            self.fail(EngineUnavailable("the replica's answer does not have the form of its path's"))

    async def _store(self, kept: StoredResponse) -> None:
        gateway = self._gateway
        async with asyncio.timeout(_LONGEST_STORING_S):
            await gateway.ask(gateway.registry.responses.add, kept, self._intake.caller.tenant)

    def _stored(self, storing: asyncio.Task[None]) -> None:
        """Write the last of the answer, now that it is stored or cannot be."""
        error = None if storing.cancelled() else storing.exception()
        answer = self._translated
        if self._is_over or answer is None:
            return
        is_stored = not storing.cancelled() and error is None
        self._gateway.metrics.response_stores.labels("stored" if is_stored else "failed").inc()
        if is_stored:
            answer.close(is_kept=True)
            super().answered()
            return
        if not isinstance(error, RegistryError | TimeoutError | None):
            log.error("unforeseen error", exc_info=error)
        self._go_on_unstored(answer)

    def _go_on_unstored(self, answer: TranslatedAnswer) -> None:
        """Answer without a stored copy, or refuse the request where its client insisted on one."""
        if not self._translating.translation.must_keep:
            answer.close(is_kept=False)
            super().answered()
        elif answer.has_begun:
            answer.break_off("registry_unavailable", _NOT_STORED)
            super().answered()
        else:
            self.fail(RegistryUnavailable(_NOT_STORED))
