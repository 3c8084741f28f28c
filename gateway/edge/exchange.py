"""One request of the hot path: from its whole body to the last byte of its answer, or until its client leaves."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from gateway.balancing.balancing import affinity_of
from gateway.edge.answer import Answer, AnswerPlan
from gateway.edge.attempts import Attempts, Order
from gateway.edge.client import Client
from gateway.edge.edge import Edge
from gateway.edge.head import RequestHead, header_value
from gateway.edge.intake import Intake
from gateway.edge.refusal import refusal_of
from gateway.errors import EngineUnavailable, GatewayError
from gateway.evidence.answer_facts import Asked
from gateway.evidence.witness import Witness
from gateway.routing.paths import PathKind
from gateway.routing.routing import Endpoint
from gateway.telemetry.finished import BROKEN, CLIENT_LEFT, Finished
from gateway.wire.connections import AnswerHead


class Exchange:
    """Gets one request answered, and tells how it went once it is over."""

    _attempts: Attempts | None = None
    _answer: Answer | None = None
    _witness: Witness | None = None
    _is_over = False
    _is_quiet = False
    _quiet_since = 0.0
    _paused_at: float | None = None
    _first_byte_at: float | None = None
    _first_byte_took = 0.0
    _traceparent = b""

    def __init__(self, edge: Edge, client: Client, head: RequestHead, kind: PathKind) -> None:
        self._edge = edge
        self._parts = edge.parts
        self._client = client
        self._head = head
        self._kind = kind
        self._intake = Intake(edge.parts, head, kind, self)
        self._began = time.monotonic()

    # what the client's connection tells

    def check_caller(self) -> None:
        """Return if the body may be read; else an error of those that `Intake.check_caller` raises."""
        self._intake.check_caller()

    def begin(self, raw: bytes) -> None:
        """The body is whole, and so are the answers to earlier requests of the connection."""
        self._edge.under_way.add(self)
        self._traceparent = self._parts.traces.begin(self._head.headers)
        self._began = time.monotonic()  # within the span, whose attributes are no longer than it is
        self._intake.begin(raw, self._began)

    def client_left(self) -> None:
        """The client closed its connection: what the engine generates for it is cut off."""
        if self._is_over:
            return
        if self._attempts is not None:
            self._attempts.stop()
        if self._witness is not None:
            self._witness.client_departed()
        self._finish(0 if self._answer is None else self._answer.status, CLIENT_LEFT)

    def pause(self) -> None:
        """The client reads more slowly than the engine writes."""
        self._paused_at = time.monotonic()
        if self._attempts is not None and self._attempts.connection is not None:
            self._attempts.connection.pause()

    def resume(self) -> None:
        """The client has read most of what was written."""
        self._paused_at = None
        if self._attempts is not None and self._attempts.connection is not None:
            self._attempts.connection.resume()

    # what the sweep tells

    def check(self, now: float) -> None:
        """Time has passed: end what takes too long."""
        if self._is_over:
            return  # what was done for another request of this sweep ended it
        if self._attempts is None:
            self._intake.check(now)
        elif not self.is_committed:
            self._attempts.check(now)
        elif self._paused_at is not None:
            if now - self._paused_at > self._parts.settings.slow_reader_timeout_s:
                self.client_left()
                self._client.abort()
        elif not self._is_quiet:
            self._is_quiet = True
            self._quiet_since = now
        elif now - self._quiet_since > self._parts.settings.idle_timeout_s:
            self._attempts.went_silent()

    def cut_off(self) -> None:
        """End it now, as the gateway ends."""
        if self._attempts is not None and self.is_committed:
            self._attempts.stop()
            self.broke()
        else:
            self.refuse(EngineUnavailable("this gateway is stopping; send the request again", retry_after_s=1))

    # what the intake tells

    def ready(self) -> None:
        """It is the request's turn: ask a replica."""
        intake = self._intake
        if intake.target.evidence is not None and self._kind.is_judged:
            self._witness = self._watch()
        served_name, route = intake.target.served_name, intake.target.route
        # both sides of a rollout belong to the same replicas, as they are compared replica by replica
        shared_name = served_name if route is None else route.adapter
        order = Order(
            served_name=served_name,
            path=self._head.path,
            body=intake.body,
            headers=self._engine_lines(intake.body.content_type),
            affinity=affinity_of(shared_name, intake.body.prefix()),
            asks_for_usage=intake.asks_for_usage,
            deadline=intake.deadline,
        )
        self._attempts = Attempts(self._parts, order, self)
        self._attempts.start()

    def refuse(self, error: Exception) -> None:
        """Answer with the error; the client has had nothing."""
        if self._is_over:
            return
        if self._attempts is not None:
            self._attempts.stop()
        refusal = refusal_of(error)
        self._client.write(refusal.written(self._client, self._lines("")))
        self._finish(refusal.status, refusal.code)
        self._client.done()

    # what the attempts tell

    @property
    def is_committed(self) -> bool:
        """The client has had bytes of an answer."""
        return self._answer is not None and self._answer.has_begun

    def accepted(self, head: AnswerHead, endpoint: Endpoint) -> None:
        """This answer is the one to be passed on."""
        plan = AnswerPlan(kind=self._kind, lines=self._lines(endpoint.replica), hide_usage=self._intake.asks_for_usage)
        self._answer = Answer(self._client, head, plan)
        if self._witness is not None:
            self._witness.opened(endpoint.replica, head.status, head.content_type)

    def take(self, data: bytes, is_whole: bool) -> None:
        """The next bytes of the answer."""
        answer = self._answer
        assert answer is not None  # noqa: S101 - a head comes before its body
        self._is_quiet = False
        if self._first_byte_at is None:
            self._first_byte_at = time.monotonic()
            answer.take(data, is_whole)
            self._first_byte_took = time.monotonic() - self._first_byte_at
        else:
            answer.take(data, is_whole)
        if self._witness is not None:
            self._witness.see_chunk(data)
        if is_whole:
            if self._witness is not None and self._attempts is not None:
                self._attempts.end()  # a copy of this request finds its replica without it
                self._witness.ended()
            self._finish(answer.status, "")
            self._client.done()

    def attempt_failed(self, replica: str) -> None:
        """The replica failed, and the client need not know."""
        self._answer = None
        self._first_byte_at = None
        if self._witness is not None:
            self._witness.failed_attempt(replica)

    def gave_up(self, error: GatewayError) -> None:
        """No replica answered in time."""
        if self._witness is not None:
            self._witness.gave_up()
        self.refuse(error)

    def broke(self) -> None:
        """The engine failed after the client had bytes."""
        answer = self._answer
        assert answer is not None  # noqa: S101 - bytes of it went out
        if self._witness is not None:
            self._witness.broke()
        is_clean = answer.break_off("engine_unavailable", "the replica failed while it answered")
        self._finish(answer.status, BROKEN)
        if is_clean:
            self._client.done()
        else:
            self._client.cut()

    def _watch(self) -> Witness | None:
        """A witness, and the copy that a shadow step may want of this request."""
        intake = self._intake
        evidence = intake.target.evidence
        if evidence is None:
            return None
        body = intake.body.whole(ask_for_usage=intake.asks_for_usage)
        copy = self._parts.shadow.choose(intake.target, self._head.path, body)
        asked = Asked.of(body, keep_text=copy is not None)
        witness = Witness(self._parts.tally_reporter, evidence, intake.target, asked, self._began)
        if copy is not None:
            witness.notify_when_answered(partial(self._parts.shadow.make, copy))
        return witness

    def _finish_reason(self) -> str:
        """Of an answer that is traced: nobody else asks for it."""
        is_sampled = self._traceparent[-1:] in (b"1", b"3")
        return self._answer.finish_reason if is_sampled and self._answer is not None else ""

    def _engine_lines(self, content_type: bytes) -> bytes:
        """Header lines that go to the engine."""
        lines = b"content-type: %b\r\nx-request-id: %b\r\n" % (content_type, self._head.request_id)
        for name in self._kind.passed_headers:
            if value := self._head.headers.get(name):
                lines += b"%b: %b\r\n" % (name, value)
        return lines + b"traceparent: %b\r\n" % self._traceparent if self._traceparent else lines

    def _lines(self, replica: str) -> bytes:
        """Our header lines; with whose answer it is, if it is a replica's."""
        lines = b"x-request-id: %b\r\n" % self._head.request_id
        if replica:
            revision = header_value(self._intake.target.served_name)
            lines += b"x-lorry-revision: %b\r\nx-lorry-replica: %b\r\n" % (revision, header_value(replica))
        admitted = self._intake.admitted
        return lines if admitted is None else lines + self._parts.rate_limiter.headers(admitted)

    def _finish(self, status: int, reason: str) -> None:
        """Give everything back and tell the listeners, once."""
        if self._is_over:
            return
        self._is_over = True
        self._edge.under_way.discard(self)
        now = time.monotonic()
        attempts, intake = self._attempts, self._intake
        usage: Any = {} if self._answer is None else self._answer.usage
        prompt, answered = usage.get(self._kind.input_tokens), usage.get(self._kind.output_tokens)
        sent_at = None if attempts is None else attempts.sent_at
        queued_s = intake.queued_s
        if attempts is not None:
            attempts.end()
        intake.leave(now, usage.get("total_tokens") or (prompt or 0) + (answered or 0) or None)
        facts = Finished(
            request_id=self._head.request_id.decode(),
            path=self._head.path,
            key_id=intake.caller.key_id,
            pool=intake.pool,
            served_name=intake.target.served_name,
            replica="" if attempts is None else attempts.replica,
            status=status,
            reason=reason,
            streamed=self._answer is not None and self._answer.is_streamed,
            retries=0 if attempts is None else attempts.retries,
            began=self._began,
            queued_s=queued_s,
            sent_at=sent_at,
            first_byte_at=self._first_byte_at,
            ended=now,
            prompt_tokens=prompt,
            completion_tokens=answered,
            overhead_s=((sent_at or now) - self._began - queued_s) + self._first_byte_took,
            traceparent=self._traceparent.decode(),
            asked_name=intake.asked_name,
            finish_reason=self._finish_reason(),
        )
        for listener in self._parts.listeners:
            listener.finished(facts)
        # both know this exchange: in circles all three would stay until the garbage collector comes
        self._attempts = None
        del self._intake
