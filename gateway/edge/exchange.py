"""A request of the hot path: from its whole body to the last byte of its answer, or until its client leaves."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.balancing.balancing import affinity_of
from gateway.edge.answer import RelayedAnswer
from gateway.edge.attempts import Attempts, Order, Sink
from gateway.edge.http_message import RequestHead
from gateway.edge.intake import RequestIntake
from gateway.edge.parts import Gateway
from gateway.edge.refusal import Refusal, refusal_of
from gateway.edge.token_estimate import Seen
from gateway.edge.turn import Step, Turn
from gateway.errors import EngineUnavailable, GatewayError
from gateway.evidence.witness import Witness
from gateway.routing.paths import PathKind
from gateway.telemetry.finished import BROKEN, CLIENT_LEFT, Finished
from registry.errors import RegistryError
from registry.rollouts.answered_completion import AnsweredCompletion

log = logging.getLogger(__name__)


class Exchange(Turn):
    """Gets one request answered, and reports how that went once it is over."""

    sink: Sink = RelayedAnswer
    """Makes what receives an engine's answer."""
    _attempts: Attempts | None = None
    _witness: Witness | None = None
    _is_over = False
    _paused_at: float | None = None
    _traceparent = b""

    def __init__(
        self,
        gateway: Gateway,
        connection: HttpToolsProtocol,
        on_over: Callable[[], None],
        head: RequestHead,
        kind: PathKind,
    ) -> None:
        super().__init__(gateway, connection, on_over, head, kind)
        self._intake = RequestIntake(gateway, self)
        self._began = time.monotonic()

    # called by the turn and the client's connection

    @property
    def has_begun(self) -> bool:
        """Whether bytes of an engine's answer were written."""
        return self._attempts is not None and self._attempts.is_committed

    def check_caller(self) -> None:
        """Return if the body may be read; else an error of those that `RequestIntake.check_caller` raises."""
        self._intake.check_caller()

    def begin(self, raw: bytes) -> None:
        """Answer the request, whose body is whole."""
        # The request is added first: from here on the sweep holds it to its deadline, whatever it waits for.
        edge, traces = self._gateway.edge, self._gateway.traces
        edge.under_way.add(self)
        edge.begun += 1
        if traces.begins_spans or b"traceparent" in self.head.headers:
            self._traceparent = traces.begin(self.head.headers)
        self._began = time.monotonic()  # within the span, whose attributes are no longer than it is
        self.advance(partial(self._intake.begin, raw, self._began))

    def client_left(self) -> None:
        """Cut off what the engine generates, as the client closed its connection."""
        if self._is_over:
            return
        answer = None
        if self._attempts is not None:
            self._attempts.stop()
            answer = self._attempts.answer
        if self._witness is not None:
            self._witness.client_departed()
        self._finish(0 if answer is None else answer.status, CLIENT_LEFT)

    def pause(self) -> None:
        """Stop reading from the engine, as the client reads more slowly than the engine writes."""
        self._paused_at = time.monotonic()
        if self._attempts is not None and self._attempts.connection is not None:
            self._attempts.connection.pause()

    def resume(self) -> None:
        """Read from the engine again, as the client has read most of what was written."""
        self._paused_at = None
        if self._attempts is not None and self._attempts.connection is not None:
            self._attempts.connection.resume()

    # called by the sweep

    def check(self, now: float) -> None:
        """End what takes too long."""
        if self._is_over:
            return  # ended by what the same sweep did for another request
        attempts = self._attempts
        if attempts is None:
            if now >= self._intake.deadline:
                self.advance(self._intake.expire)
            elif self._intake.is_served_elsewhere:
                self.advance(self._intake.enter_elsewhere)
        # While the client does not read, we do not read from the engine: that silence is not the replica's.
        elif self._paused_at is None or not attempts.is_committed:
            attempts.check(now)
        elif now - self._paused_at > self._gateway.settings.slow_reader_timeout_s:
            self.client_left()
            self.abort()

    def cut_off(self) -> None:
        """End the request now, as the gateway ends."""
        if self._attempts is not None and self._attempts.is_committed:
            self._attempts.stop()
            self.broke()
        else:
            self.fail(EngineUnavailable("this gateway is stopping; send the request again", retry_after_s=1))

    # called by the intake, the attempts and the answer

    def advance(self, step: Step) -> None:
        """Take the intake's next step, and ask a replica if the request's turn has come."""
        if self._is_over:
            return
        try:
            if step():
                self._ask()
        except (GatewayError, RegistryError) as exc:
            self.fail(exc)
        # The queue gives turns in a loop: what one request raises must not end the turns of others.
        except Exception as exc:
            log.exception("unforeseen error", extra={"path": self.head.path})
            self.fail(exc)

    def fail(self, error: Exception) -> None:
        """Answer with the error, as the client has had nothing."""
        if self._is_over:
            return
        if self._attempts is not None:
            # The attempts stop first, so that no byte of an engine's answer can follow the refusal.
            self._attempts.stop()
        if self._attempts is None or self._attempts.sent_at is None:
            self._intake.withdraw()  # first, so that the answer shows the limits without this request
        refusal = self.refusal_for(error)
        self.write(refusal.written(self, self._request_lines()))
        self._finish(refusal.status, refusal.code)
        self.done()

    def refusal_for(self, error: Exception) -> Refusal:
        """Return *error* as the client gets it."""
        return refusal_of(error)

    def answered(self) -> None:
        """End the turn after the last byte of an engine's answer."""
        attempts, witness = self._attempts, self._witness
        assert attempts is not None and attempts.answer is not None  # noqa: S101 - it has written its last byte
        if witness is not None:
            attempts.end()  # first, so that a copy of this request finds its replica without it
            witness.ended()
        # Places are given back before `done` begins the connection's next request, which may need one.
        self._finish(attempts.answer.status, "")
        self.done()

    def broke(self) -> None:
        """End the turn after an engine failed when the client had bytes of its answer."""
        assert self._attempts is not None and self._attempts.answer is not None  # noqa: S101 - bytes of it went out
        answer = self._attempts.answer
        if self._witness is not None:
            self._witness.broke()
        is_clean = answer.break_off("engine_unavailable", "the replica failed while it answered")
        self._finish(answer.status, BROKEN)
        if is_clean:
            self.done()
        else:
            self.cut()

    def _ask(self) -> None:
        """Ask a replica, as it is the request's turn."""
        intake = self._intake
        body, target = intake.body, intake.target
        if target.evidence is not None and self.kind.is_judged:
            whole = body.whole(ask_for_usage=intake.asks_for_usage)
            # A pool that slept says nothing of a revision: its request is timed from its turn on.
            began = intake.turn_at if intake.waited_cold else self._began
            self._witness = self._gateway.shadow.watch(target.evidence, target, self.kind.path, whole, began)
        # both sides of a rollout belong to the same replicas, as they are compared replica by replica
        shared_name = target.served_name if target.route is None else target.route.adapter
        order = Order(
            served_name=target.served_name,
            body=body,
            lines=self._engine_lines(body.content_type),
            answer_lines=self._request_lines(),
            affinity=affinity_of(shared_name, body.prefix()),
            asks_for_usage=intake.asks_for_usage,
            deadline=intake.deadline,
            witness=self._witness,
            sink=self.sink,
        )
        self._attempts = Attempts(self._gateway, self, order)
        self._attempts.start(intake.endpoints)

    def _engine_lines(self, content_type: bytes) -> bytes:
        """Return the header lines for the engine."""
        lines = b"content-type: %b\r\nx-request-id: %b\r\n" % (content_type, self.head.request_id)
        return lines + b"traceparent: %b\r\n" % self._traceparent if self._traceparent else lines

    def _request_lines(self) -> bytes:
        """Return the header lines of every answer to this request: its id, and what its caller may still ask."""
        lines = b"x-request-id: %b\r\n" % self.head.request_id
        admitted = self._intake.admitted
        return lines if admitted is None else lines + self._gateway.rate_limiter.headers(admitted)

    def _finish(self, status: int, reason: str) -> None:
        """Give everything back and have the facts reported, once."""
        if self._is_over:
            return
        self._is_over = True
        self._gateway.edge.under_way.discard(self)
        now = time.monotonic()
        attempts, intake = self._attempts, self._intake
        usage: Any = {} if attempts is None or attempts.answer is None else attempts.answer.usage
        facts = self._facts(status, reason, now, usage)
        if attempts is not None:
            self._allow_rating(attempts, status)
            attempts.end()
        if intake.admitted is not None:
            self._settle(facts, usage)
        intake.leave(now)
        self._gateway.edge.over.append(facts)
        # all of these know each other: in circles they would stay until the garbage collector comes
        if attempts is not None:
            attempts.answer = None
        self._attempts = self._witness = None
        del self._intake

    def _settle(self, facts: Finished, usage: Mapping[str, Any]) -> None:
        """Correct what the limits of the caller's key count of this request."""
        attempts, intake = self._attempts, self._intake
        if attempts is None or attempts.sent_at is None:
            intake.withdraw()
        else:
            events = None if attempts.answer is None else attempts.answer.events
            used = facts.prompt_tokens, facts.completion_tokens, usage.get("total_tokens")
            intake.settle(Seen(facts.status, *used, events, facts.reason in (CLIENT_LEFT, BROKEN)))

    def _allow_rating(self, attempts: Attempts, status: int) -> None:
        """Remember the answer, if it has an id; only one that was counted as evidence is judged by its rating."""
        answer, witness, intake = attempts.answer, self._witness, self._intake
        if answer is None or status >= 400 or not self.kind.may_stream or not (completion_id := answer.completion_id):
            return
        cell = None if witness is None else witness.counted_in
        target, tenant = intake.target.served_name, intake.caller.tenant
        answered = AnsweredCompletion(completion_id, tenant, target, attempts.replica, cell, time.time())
        self._gateway.tally_reporter.answered.append(answered)

    def _facts(self, status: int, reason: str, now: float, usage: Mapping[str, Any]) -> Finished:
        """Return what is reported."""
        attempts, intake = self._attempts, self._intake
        answer = None if attempts is None else attempts.answer
        sent_at = None if attempts is None else attempts.sent_at
        queued_s = intake.queued_s
        handling_s = 0.0 if answer is None else answer.first_byte_took_s
        # Bit 0 of the last byte is `sampled`, bit 1 `random` (W3C Trace Context, level 2).
        is_sampled = self._traceparent[-1:] in (b"1", b"3")
        return Finished(
            request_id=self.head.request_id.decode(),
            path=self.head.path,
            key_id=intake.caller.key_id,
            pool=intake.pool,
            served_name=intake.target.served_name,
            replica="" if attempts is None else attempts.replica,
            status=status,
            reason=reason,
            streamed=answer is not None and answer.is_streamed,
            retries=0 if attempts is None else attempts.retries,
            began=self._began,
            queued_s=queued_s,
            cold_start_s=intake.cold_start_s,
            sent_at=sent_at,
            first_byte_at=None if answer is None else answer.first_byte_at,
            ended=now,
            prompt_tokens=usage.get(self.kind.input_tokens),
            completion_tokens=usage.get(self.kind.output_tokens),
            overhead_s=(sent_at or now) - self._began - queued_s + handling_s,
            traceparent=self._traceparent.decode(),
            asked_name=intake.asked_name,
            engine_error="" if answer is None else answer.engine_error,
            finish_reason=answer.finish_reason if answer is not None and is_sampled else "",
        )
