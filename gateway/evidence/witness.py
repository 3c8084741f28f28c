"""Observation of one request while the bytes of its answer are relayed."""

from __future__ import annotations

import time
from collections.abc import Callable

from gateway.evidence.answer_facts import AnswerFacts, Asked, Reading, StreamReading, WholeReading, failed
from gateway.evidence.tally_reporter import TallyReporter
from gateway.routing.routing import Evidence
from registry.rollouts.tally import Cell, ErrorKind

Answered = Callable[[str, AnswerFacts], None]
"""Called with the replica and the facts of an answer."""

_OURS_NOT_THE_CLIENTS = 404
"""The status of an engine that lacks the revision which the route sent to it: our fault, not the client's."""


class Witness:
    """Counts one request that is evidence for a rollout; bytes reach it after they were sent to the client.

    A request whose client departed before the answer was complete is not counted.
    """

    counted_in: Cell | None = None
    """The cell of the answer once that was counted without an error: the cell that a rating of it counts for."""

    def __init__(self, tally_reporter: TallyReporter, evidence: Evidence, asked: Asked, began: float) -> None:
        self._tally_reporter = tally_reporter
        self._evidence = evidence
        self._asked = asked
        self._began = began
        self._failed_at: list[str] = []
        self._then: Answered | None = None
        self._replica = ""
        self._status = 0
        self._reading: Reading | None = None

    def notify_when_answered(self, then: Answered) -> None:
        """Call *then* when the request was answered completely and without an error."""
        self._then = then

    def failed_attempt(self, replica: str) -> None:
        """Count a replica that failed before the client had a byte, once however often it is tried."""
        # What the lost replica sent was held back from the client, so it is no part of the answer.
        self._reading = None
        if replica not in self._failed_at:
            self._failed_at.append(replica)
            self._count(replica, ErrorKind.RETRIED)

    def gave_up(self) -> None:
        """Count a request that no replica answered."""
        self._count(self._failed_at[-1] if self._failed_at else "", ErrorKind.UNAVAILABLE)

    def opened(self, replica: str, status: int, content_type: bytes) -> None:
        """Begin to read the answer whose head is sent to the client."""
        self._replica = replica
        self._status = status
        self._reading = reading_of(content_type, self._asked) if status < 400 else None

    def see_chunk(self, chunk: bytes) -> None:
        """Read bytes of the answer that were sent to the client."""
        if self._reading is not None and chunk:
            self._reading.add_chunk(chunk, time.monotonic())
            self._reading.read()

    def ended(self) -> None:
        """Count the answer, which is complete."""
        if self._reading is not None:
            self._conclude(self._reading)
        elif (kind := _kind_of(self._status)) is not None:
            self._count(self._replica, kind)

    def broke(self) -> None:
        """Count an answer during which the engine failed."""
        # An engine may fail after the last event, when the client has the whole answer.
        if self._reading is not None and not self._count_if_whole():
            self._count(self._replica, ErrorKind.BROKEN)

    def client_departed(self) -> None:
        """Count the answer only if it was complete when the client departed."""
        self._count_if_whole()

    def _count_if_whole(self) -> bool:
        """Count the answer if it is complete nevertheless, and return whether it was."""
        reading = self._reading
        if reading is None or not reading.is_whole:
            return False
        self._conclude(reading)
        return True

    def _conclude(self, reading: Reading) -> None:
        self._reading = None
        facts = reading.result(self._began)
        cell = self._tally_reporter.add(self._evidence, self._replica, facts.tally)
        if facts.error is not None:
            return
        self.counted_in = cell
        if self._then is not None:
            self._then(self._replica, facts)

    def _count(self, replica: str, kind: ErrorKind) -> None:
        self._tally_reporter.add(self._evidence, replica, failed(kind))


def reading_of(content_type: bytes, asked: Asked) -> Reading:
    """Return the reader for the answer's content type."""
    return StreamReading(asked) if content_type.startswith(b"text/event-stream") else WholeReading(asked)


def _kind_of(status: int) -> ErrorKind | None:
    """Return the kind of error for an engine's *status*; None for a fault of the client."""
    if status == 429:
        return ErrorKind.OVERLOADED
    return ErrorKind.ENGINE_ERROR if status >= 500 or status == _OURS_NOT_THE_CLIENTS else None
