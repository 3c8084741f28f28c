"""The attempts at one request: one replica after another, while the client has not had a byte."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from msgspec import Struct

from gateway.edge.answer import AnswerPlan, RelayedAnswer
from gateway.edge.http_message import RequestBody, replica_lines
from gateway.edge.parts import Gateway
from gateway.edge.replica_wait import replica_of
from gateway.edge.turn import Turn, refuse
from gateway.errors import DeadlineExceeded, EngineUnavailable
from gateway.evidence.witness import Witness
from gateway.routing.routing import Endpoint
from gateway.wire.connections import EngineConnection, EnginePool
from gateway.wire.engine_answer import AnswerHead, AnswerSink, Fault, Requester

log = logging.getLogger(__name__)

_PASSED_TO_ANOTHER: Final = frozenset({429, 500, 502, 503, 504})
"""Statuses after which another replica may do better."""
_FULL: Final = 429
_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 1.0


Sink = Callable[[Turn, AnswerHead, AnswerPlan, Requester], RelayedAnswer]
"""Returns the sink of an answer that is passed on."""


class Order(Struct, frozen=True):
    """A request as any engine may get it. A struct, as there is one for each request."""

    served_name: str
    body: RequestBody
    lines: bytes
    """Header lines for the engine, `content-type` and `x-request-id` among them."""
    answer_lines: bytes
    """Header lines for the client, without revision and replica."""
    affinity: int
    asks_for_usage: bool
    """The engine is to send the usage of a stream although the client did not ask for it."""
    deadline: float
    """Until then the client waits for the first byte; monotonic."""
    witness: Witness | None
    """Counts how the request is answered, where that is evidence for a rollout."""
    sink: Sink
    """Makes what receives the answer."""


class Attempts:
    """The attempts at one request, of which at most one is under way."""

    connection: EngineConnection | None = None
    answer: RelayedAnswer | None = None
    """The answer of the replica that was asked last, from its head on."""
    retries = 0
    sent_at: float | None = None
    """When the request was first sent."""
    replica = ""
    """The replica that was asked last."""
    _endpoint: Endpoint | None = None
    _waiting: asyncio.Task[None] | asyncio.TimerHandle | None = None
    _trouble_at: float | None = None
    _pause_s = _FIRST_PAUSE_S
    _attempt_at = 0.0
    _quiet_since = 0.0

    def __init__(self, gateway: Gateway, turn: Turn, order: Order) -> None:
        self._gateway = gateway
        self._turn = turn
        self._order = order
        self._tried: set[str] = set()

    @property
    def is_committed(self) -> bool:
        """The client has had bytes, so that no other replica can be asked."""
        return self.answer is not None and self.answer.has_begun

    def start(self, endpoints: Sequence[Endpoint]) -> None:
        """Ask that of the *endpoints* which the balancer chooses."""
        now = time.monotonic()
        endpoint = self._gateway.balancer.choose(endpoints, self._order.affinity, self._tried, now)
        # The replicas that were there when the turn came may have left the table meanwhile.
        if endpoint is None:
            self._wait_for_replica(now)
        else:
            pool = self._gateway.connections[endpoint.url]
            self._ask(endpoint, pool, pool.pop_free())

    def check(self, now: float) -> None:
        """End what takes too long: the request at its deadline, the attempt at a silent replica."""
        settings, answer = self._gateway.settings, self.answer
        if answer is not None and answer.has_begun:
            # The sweep sets the mark and the next bytes clear it, so that a chunk need not read the clock.
            if not answer.is_quiet:
                answer.is_quiet = True
                self._quiet_since = now
            elif now - self._quiet_since > settings.idle_timeout_s:
                self._went_silent()
        elif now >= self._order.deadline:
            self.stop()
            self._give_up(DeadlineExceeded("no replica began to answer within the time that the request allows"))
        elif now - self._attempt_at > settings.first_byte_timeout_s:
            self._went_silent()

    def stop(self) -> None:
        """Leave off, whatever is under way; an engine that generates is cut off."""
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        if self.connection is not None:
            self.connection.close()
        self.end()

    def end(self) -> None:
        """Count the attempt under way as over; ending again does nothing."""
        self.connection = None
        if self._endpoint is not None:
            self._gateway.balancer.end(self._endpoint.replica, self._order.served_name)
            self._endpoint = None

    # called by the engine's connection

    def on_head(self, head: AnswerHead) -> AnswerSink | None:
        """Return the answer that is passed on; None where another replica was asked, as it may do better."""
        endpoint, connection, order = self._endpoint, self.connection, self._order
        assert endpoint is not None and connection is not None  # noqa: S101 - a connection is being read
        if head.status in _PASSED_TO_ANOTHER:
            now = time.monotonic()
            if head.status != _FULL or self._has_untried(endpoint.replica):  # a full one is passed over for others
                self._gateway.health.failed(endpoint.replica, now, alive=True)
            if self._may_ask_another(endpoint, now):
                connection.close()
                self._give_replica_up(endpoint, Fault.REFUSED)
                self.start(self._endpoints())
                return None
        plan = AnswerPlan(
            lines=order.answer_lines + replica_lines(order.served_name, endpoint.replica),
            hide_usage=order.asks_for_usage,
            replica=endpoint.replica,
            asked_at=self._attempt_at,
            health=self._gateway.health if head.status < 500 and head.status != _FULL else None,
            witness=order.witness,
        )
        self.answer = order.sink(self._turn, head, plan, self)
        if order.witness is not None:
            order.witness.opened(endpoint.replica, head.status, head.content_type)
        return self.answer

    def on_lost(self, fault: Fault) -> None:
        """Ask again, another replica if there is one; break the answer off if it is too late for that."""
        endpoint = self._endpoint
        assert endpoint is not None  # noqa: S101 - a connection was being read or opened
        self.connection = None
        if fault is Fault.STALE:  # no fault of the replica's, so the same one is asked, on a new connection
            self.end()
            # Any other kept connection may be stale too. Sending a POST again is safe here, as inference changes
            # nothing at the engine (RFC 9110, 9.2.2).
            self._ask(endpoint, self._gateway.connections[endpoint.url], None)
            return
        self._gateway.health.failed(endpoint.replica, time.monotonic())
        if self.is_committed:
            log.warning("replica failed while it answered", extra={"replica": endpoint.replica, "fault": str(fault)})
            self._turn.broke()
            return
        self._give_replica_up(endpoint, fault)
        self._try_again()

    def _went_silent(self) -> None:
        # Where there is no connection, one is being opened or a pause runs; both have bounds of their own.
        if self.connection is not None:
            self.connection.close()
            self.on_lost(Fault.SILENT)

    def _ask(self, endpoint: Endpoint, pool: EnginePool, connection: EngineConnection | None) -> None:
        self._endpoint = endpoint
        self.replica = endpoint.replica
        # counted before a connection is opened: requests that come meanwhile see this one's load
        self._gateway.balancer.begin(endpoint.replica, self._order.served_name)
        if connection is None:
            self._waiting = pool.open(partial(self._opened, pool))
        else:
            self._send(endpoint, pool, connection)

    def _opened(self, pool: EnginePool, connection: EngineConnection | None) -> None:
        # The task that opened the connection calls this; a `stop` from here must not cancel it.
        self._waiting = None
        self._turn.advance(partial(self._send_or_lose, pool, connection))

    def _send_or_lose(self, pool: EnginePool, connection: EngineConnection | None) -> bool:
        assert self._endpoint is not None  # noqa: S101 - it was connected to
        if connection is None:
            self.on_lost(Fault.UNREACHABLE)
        else:
            self._send(self._endpoint, pool, connection)
        return False

    def _send(self, endpoint: Endpoint, pool: EnginePool, connection: EngineConnection) -> None:
        order = self._order
        self.connection = connection
        self._attempt_at = time.monotonic()
        if self.sent_at is None:
            self.sent_at = self._attempt_at
        body = order.body.for_engine(endpoint.address_of(order.served_name), ask_for_usage=order.asks_for_usage)
        connection.send(self, pool.post(self._turn.kind.path, order.lines, body))

    def _give_replica_up(self, endpoint: Endpoint, fault: Fault) -> None:
        log.warning("replica failed", extra={"replica": endpoint.replica, "fault": str(fault)})
        self.end()
        # Only a head that the client gets may give the request its status.
        self.answer = None
        self._tried.add(endpoint.replica)
        if self._order.witness is not None:
            self._order.witness.failed_attempt(endpoint.replica)

    def _give_up(self, error: BaseException) -> None:
        if self._order.witness is not None:
            self._order.witness.gave_up()
        self._turn.advance(partial(refuse, error))

    def _may_ask_another(self, endpoint: Endpoint, now: float) -> bool:
        """Whether there is a replica that was not tried, and the budget has room for a retry, which is spent."""
        if now >= self._order.deadline or not self._has_untried(endpoint.replica):
            return False
        # The budget comes last, since a yes spends a retry.
        if not self._gateway.budget.spend(now):
            return False
        self.retries += 1
        return True

    def _has_untried(self, beside: str = "") -> bool:
        return any(e.replica != beside and e.replica not in self._tried for e in self._endpoints())

    def _endpoints(self) -> Sequence[Endpoint]:
        """Return the ready replicas that may answer now, which may be others than at the last attempt."""
        gateway = self._gateway
        return gateway.offers.of(gateway.feed.table, self._order.served_name, self._turn.kind.path)

    def _try_again(self) -> None:
        """Retry at once at another replica, after a pause at the same one, later where the budget is spent; or give up.

        The pause doubles each time, so that requests which wait for a lost replica ask for it more and more rarely.
        """
        self._waiting = None
        now = time.monotonic()
        # The wait counts from the first failure, so that time in the queue does not use it up.
        if self._trouble_at is None:
            self._trouble_at = now
        if now >= self._trouble_at + self._gateway.settings.replica_wait_s:
            served_name = self._order.served_name
            self._give_up(EngineUnavailable(f"no replica answered for {served_name!r}", retry_after_s=2))
        elif self._has_untried() and self._gateway.budget.spend(now):
            self.retries += 1
            self.start(self._endpoints())
        else:
            self._waiting = asyncio.get_running_loop().call_later(self._pause_s, self._after_pause)
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)

    def _after_pause(self) -> None:
        self._waiting = None
        self._turn.advance(self._ask_after_pause)

    def _ask_after_pause(self) -> bool:
        if self._gateway.budget.spend(time.monotonic()):
            self.retries += 1
            self.start(self._endpoints())
        else:
            self._try_again()
        return False

    def _wait_for_replica(self, now: float) -> None:
        most_s = self._order.deadline - now
        self._waiting = waiting = asyncio.create_task(replica_of(self._gateway, self._order.served_name, most_s))
        waiting.add_done_callback(self._replica_came)

    def _replica_came(self, waited: asyncio.Task[None]) -> None:
        """Ask the replica that came; any error ends the request here, as its deadline may be far."""
        if waited is not self._waiting:
            return  # the request is over
        # Forgotten first: `_give_up` ends in `stop`, which cancels what is waited for.
        self._waiting = None
        if waited.cancelled():  # by the end of something that others wait for as well
            self._give_up(EngineUnavailable("the gateway was interrupted", retry_after_s=1))
        elif (error := waited.exception()) is not None:
            self._give_up(error)
        else:
            self._turn.advance(self._start_anew)

    def _start_anew(self) -> bool:
        self.start(self._endpoints())
        return False
