"""Sees how one request is answered while its bytes pass by."""

from __future__ import annotations

import time
from collections.abc import Callable

from gateway.evidence.answer_facts import AnswerFacts, Asked, Reading, StreamReading, WholeReading, failed
from gateway.evidence.tally_reporter import TallyReporter
from gateway.routing.routing import Evidence, Target
from registry.rollouts.tally import ErrorKind

Answered = Callable[[str, AnswerFacts], None]
"""Told the replica and what the answer was like."""

_OURS_NOT_THE_CLIENTS = 404
"""An engine that does not know the revision that the route sent to it."""


class Witness:
    """Counts one request that is evidence of something; bytes are shown to it after they were passed on.

    A request whose client left before the answer was whole is not counted.
    """

    def __init__(
        self, tally_reporter: TallyReporter, evidence: Evidence, target: Target, asked: Asked, began: float
    ) -> None:
        self._tally_reporter = tally_reporter
        self._evidence = evidence
        self._served_name = target.served_name
        self._asked = asked
        self._began = began
        self._failed_at: list[str] = []
        self._then: Answered | None = None
        self._replica = ""
        self._status = 0
        self._reading: Reading | None = None

    def notify_when_answered(self, then: Answered) -> None:
        """Have *then* told when the request was answered whole and without an error."""
        self._then = then

    def failed_attempt(self, replica: str) -> None:
        """A replica failed before the client had a byte; each counts once, however often it is tried."""
        self._reading = None
        if replica not in self._failed_at:
            self._failed_at.append(replica)
            self._count(replica, ErrorKind.RETRIED)

    def gave_up(self) -> None:
        """No replica answered."""
        self._count(self._failed_at[-1] if self._failed_at else "", ErrorKind.UNAVAILABLE)

    def opened(self, replica: str, status: int, content_type: bytes) -> None:
        """The head of an answer has come, which is passed on."""
        self._replica = replica
        self._status = status
        self._reading = reading_of(content_type, self._asked) if status < 400 else None

    def see_chunk(self, chunk: bytes) -> None:
        """These bytes of the answer were passed on."""
        if self._reading is not None and chunk:
            self._reading.add_chunk(chunk, time.monotonic())
            self._reading.read()

    def ended(self) -> None:
        """The answer is whole."""
        if self._reading is not None:
            self._conclude(self._reading)
        elif (kind := _kind_of(self._status)) is not None:
            self._count(self._replica, kind)

    def broke(self) -> None:
        """The engine failed on the way."""
        if self._reading is not None and not self._count_if_whole():
            self._count(self._replica, ErrorKind.BROKEN)

    def client_departed(self) -> None:
        """The client left."""
        self._count_if_whole()

    def _count_if_whole(self) -> bool:
        """Whether all had been said nevertheless; then it is counted."""
        reading = self._reading
        if reading is None or not reading.is_whole:
            return False
        self._conclude(reading)
        return True

    def _conclude(self, reading: Reading) -> None:
        self._reading = None
        facts = reading.result(self._began)
        self._tally_reporter.add_answer(self._evidence, self._replica, self._served_name, facts)
        if self._then is not None and facts.error is None:
            self._then(self._replica, facts)

    def _count(self, replica: str, kind: ErrorKind) -> None:
        self._tally_reporter.add(self._evidence, replica, failed(kind))


def reading_of(content_type: bytes, asked: Asked) -> Reading:
    """A reading of the kind that the answer's content type calls for."""
    return StreamReading(asked) if content_type.startswith(b"text/event-stream") else WholeReading(asked)


def _kind_of(status: int) -> ErrorKind | None:
    """The kind of error that an engine's *status* is; None for a fault of the client."""
    if status == 429:
        return ErrorKind.OVERLOADED
    return ErrorKind.ENGINE_ERROR if status >= 500 or status == _OURS_NOT_THE_CLIENTS else None
