"""Sees how one request is answered while its bytes pass by."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable

from gateway.answer_facts import AnswerFacts, Asked, Reading, StreamReading, WholeReading, failed
from gateway.errors import EngineUnavailable
from gateway.observations import Observations
from gateway.routing import Target
from gateway.upstream import UpstreamAnswer
from registry.observation import ErrorKind

Answered = Callable[[str, AnswerFacts], None]
"""Told the replica and what the answer was like."""

_OURS_NOT_THE_CLIENTS = 404
"""An engine that does not know the revision that the route sent to it."""


class Witness:
    """Counts one request, if it is evidence of anything; the bytes pass through unchanged either way.

    A request whose client left before the answer was whole is not counted.
    """

    def __init__(self, observations: Observations, target: Target, asked: Asked, began: float) -> None:
        self._observations = observations
        self._target = target
        self._asked = asked
        self._began = began
        self._failed_at: list[str] = []
        self._then: Answered | None = None

    def tell(self, then: Answered) -> None:
        """Have *then* told when the request was answered whole and without an error."""
        self._then = then

    def failed_attempt(self, replica: str) -> None:
        """A replica failed before its first byte; each counts once, however often it is tried."""
        if replica not in self._failed_at:
            self._failed_at.append(replica)
            self._count(replica, ErrorKind.RETRIED)

    def gave_up(self) -> None:
        """No replica answered."""
        self._count(self._failed_at[-1] if self._failed_at else "", ErrorKind.UNAVAILABLE)

    def over(self, answer: UpstreamAnswer) -> AsyncGenerator[bytes, None]:
        """The answer's bytes as they come, counted in the end; `EngineUnavailable` if the engine fails on the way."""
        if self._target.evidence is None:
            return answer.chunks()
        status = answer.response.status_code
        if status >= 400:
            kind = _kind_of(status)
            if kind is not None:
                self._count(answer.endpoint.replica, kind)
            return answer.chunks()
        return self._read(answer, reading_of(answer, self._asked))

    async def _read(self, answer: UpstreamAnswer, reading: Reading) -> AsyncGenerator[bytes, None]:
        has_ended = is_broken = False
        try:
            async for chunk in answer.chunks():
                reading.take(chunk, time.monotonic())
                yield chunk
                reading.read()
            has_ended = True
        except EngineUnavailable:
            is_broken = True
            raise
        finally:
            if has_ended or reading.is_whole:
                self._conclude(answer.endpoint.replica, reading.result(self._began))
            elif is_broken:
                self._count(answer.endpoint.replica, ErrorKind.BROKEN)

    def _conclude(self, replica: str, facts: AnswerFacts) -> None:
        evidence = self._target.evidence
        if evidence is not None:
            self._observations.add_answer(evidence, replica, self._target.served_name, facts)
        if self._then is not None and facts.error is None:
            self._then(replica, facts)

    def _count(self, replica: str, kind: ErrorKind) -> None:
        if self._target.evidence is not None:
            self._observations.add(self._target.evidence, replica, failed(kind))


def reading_of(answer: UpstreamAnswer, asked: Asked) -> Reading:
    """A reading of the kind that the answer's content type calls for."""
    streamed = answer.response.headers.get("content-type", "").startswith("text/event-stream")
    return StreamReading(asked) if streamed else WholeReading(asked)


def _kind_of(status: int) -> ErrorKind | None:
    """The kind of error that an engine's *status* is; None for a fault of the client."""
    if status == 429:
        return ErrorKind.OVERLOADED
    return ErrorKind.ENGINE_ERROR if status >= 500 or status == _OURS_NOT_THE_CLIENTS else None
