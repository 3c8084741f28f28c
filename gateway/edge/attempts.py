"""Gets one request answered: by one replica after another while the client has not had a byte."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from functools import partial
from typing import Final, NamedTuple, Protocol

from gateway.edge.body import RequestBody
from gateway.edge.parts import EdgeParts
from gateway.edge.waits import replica_of
from gateway.errors import DeadlineExceeded, EngineUnavailable, GatewayError
from gateway.routing.routing import Endpoint
from gateway.wire.connections import AnswerHead, EngineConnection, EnginePool, Fault
from gateway.wire.engine_request import address_of, written

log = logging.getLogger(__name__)

_PASSED_TO_ANOTHER: Final = frozenset({429, 500, 502, 503, 504})
"""Statuses after which another replica may do better."""
_FULL: Final = 429
_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 1.0


class Order(NamedTuple):
    """A request as any engine may get it. A tuple, as there is one for each request."""

    served_name: str
    path: str
    body: RequestBody
    headers: bytes
    """Header lines that go to the engine, `content-type` and `x-request-id` among them."""
    affinity: int
    asks_for_usage: bool
    deadline: float
    """Until then the client waits for the first byte; monotonic."""

    def bytes_for(self, endpoint: Endpoint, host: bytes) -> bytes:
        """The whole request to *endpoint*."""
        body = self.body.for_engine(address_of(endpoint, self.served_name), ask_for_usage=self.asks_for_usage)
        return written(self.path, host, self.headers, body)


class Orderer(Protocol):
    """Whoever wants the request answered."""

    @property
    def is_committed(self) -> bool:
        """The client has had bytes, so that nobody else can be asked."""
        ...

    def accepted(self, head: AnswerHead, endpoint: Endpoint) -> None:
        """This answer is the one to be passed on."""
        ...

    def take(self, data: bytes, is_whole: bool) -> None:
        """The next bytes of its body."""
        ...

    def attempt_failed(self, replica: str) -> None:
        """The replica failed, and what came of it is void."""
        ...

    def gave_up(self, error: GatewayError) -> None:
        """No replica answered in time."""
        ...

    def broke(self) -> None:
        """The replica failed when it was too late for another one."""
        ...


class Attempts:
    """The attempts at one request; at most one is under way."""

    connection: EngineConnection | None = None
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
    _is_well = False
    _has_answered = False

    def __init__(self, parts: EdgeParts, order: Order, orderer: Orderer) -> None:
        self._parts = parts
        self._order = order
        self._orderer = orderer
        self._tried: set[str] = set()

    def start(self) -> None:
        """Ask the replica that the balancer chooses."""
        now = time.monotonic()
        endpoint = self._parts.balancer.choose(self._endpoints(), self._order.affinity, self._tried, now)
        if endpoint is None:
            self._waiting = asyncio.create_task(self._wait_for_replica(now))
        else:
            pool = self._parts.connections.of(endpoint.url)
            self._ask(endpoint, pool, pool.take())

    def check(self, now: float) -> None:
        """Time passes: give up at the deadline, pass a silent replica over."""
        if now >= self._order.deadline:
            self.stop()
            self._orderer.gave_up(
                DeadlineExceeded("no replica began to answer within the time that the request allows")
            )
        elif now - self._attempt_at > self._parts.settings.first_byte_timeout_s:
            self.went_silent()

    def went_silent(self) -> None:
        """The replica said nothing for too long."""
        if self.connection is not None:
            self.connection.close()
            self.on_lost(Fault.SILENT)

    def stop(self) -> None:
        """Leave off, whatever is under way; an engine that generates is cut off."""
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        if self.connection is not None:
            self.connection.close()
        self.end()

    def end(self) -> None:
        """The attempt under way is over."""
        self.connection = None
        if self._endpoint is not None:
            self._parts.balancer.end(self._endpoint.replica)
            self._parts.demand.end(self._order.served_name)
            self._endpoint = None

    # what the connection tells

    def on_head(self, head: AnswerHead) -> None:
        """Pass the answer on, unless another replica may do better."""
        endpoint, connection = self._endpoint, self.connection
        assert endpoint is not None and connection is not None  # noqa: S101 - a connection is being read
        if head.status in _PASSED_TO_ANOTHER:
            now = time.monotonic()
            if head.status != _FULL or self._has_untried(endpoint.replica):  # a full one is passed over for others
                self._parts.health.failed(endpoint.replica, now, alive=True)
            if self._may_ask_another(endpoint, now):
                connection.close()
                self._leave(endpoint, Fault.REFUSED)
                self.start()
                return
        else:
            self._is_well = head.status < 500
        self._orderer.accepted(head, endpoint)

    def on_data(self, data: bytes, is_whole: bool) -> None:
        """Pass it on."""
        if not self._has_answered:
            self._has_answered = True
            if self._is_well:
                now = time.monotonic()
                self._parts.health.answered(self.replica, now - self._attempt_at, now)
        self._orderer.take(data, is_whole)

    def on_lost(self, fault: Fault) -> None:
        """The replica failed: ask again, another one if there is one; or say that it broke, if it is too late."""
        endpoint = self._endpoint
        assert endpoint is not None  # noqa: S101 - a connection was being read or opened
        self.connection = None
        if fault is Fault.STALE:
            self.end()
            self._ask(endpoint, self._parts.connections.of(endpoint.url), None)
            return
        self._parts.health.failed(endpoint.replica, time.monotonic())
        if self._orderer.is_committed:
            log.warning("replica failed while it answered", extra={"replica": endpoint.replica, "fault": str(fault)})
            self._orderer.broke()
            return
        self._leave(endpoint, fault)
        self._try_again()

    def _ask(self, endpoint: Endpoint, pool: EnginePool, connection: EngineConnection | None) -> None:
        self._endpoint = endpoint
        self.replica = endpoint.replica
        self._parts.balancer.begin(endpoint.replica)
        self._parts.demand.begin(self._order.served_name)
        if connection is None:
            self._waiting = pool.open(partial(self._opened, pool))
        else:
            self._send(endpoint, pool, connection)

    def _opened(self, pool: EnginePool, connection: EngineConnection | None) -> None:
        self._waiting = None
        assert self._endpoint is not None  # noqa: S101 - it is being connected to
        if connection is None:
            self.on_lost(Fault.UNREACHABLE)
        else:
            self._send(self._endpoint, pool, connection)

    def _send(self, endpoint: Endpoint, pool: EnginePool, connection: EngineConnection) -> None:
        self.connection = connection
        self._attempt_at = time.monotonic()
        connection.send(self, self._order.bytes_for(endpoint, pool.host))
        self._is_well = self._has_answered = False
        if self.sent_at is None:
            self.sent_at = self._attempt_at

    def _leave(self, endpoint: Endpoint, fault: Fault) -> None:
        log.warning("replica failed", extra={"replica": endpoint.replica, "fault": str(fault)})
        self.end()
        self._tried.add(endpoint.replica)
        self._orderer.attempt_failed(endpoint.replica)

    def _may_ask_another(self, endpoint: Endpoint, now: float) -> bool:
        """Whether a replica is left that was not tried, and the budget for retries has room; takes from it."""
        if now >= self._order.deadline or not self._has_untried(endpoint.replica):
            return False
        if not self._parts.budget.take(now):
            return False
        self.retries += 1
        return True

    def _has_untried(self, beside: str = "") -> bool:
        return any(e.replica != beside and e.replica not in self._tried for e in self._endpoints())

    def _endpoints(self) -> Sequence[Endpoint]:
        """The ready replicas that may answer."""
        served_name = self._order.served_name
        found = self._parts.feed.table.endpoints_of(served_name)
        return self._parts.offers.of(found, served_name, self._order.path)

    def _try_again(self) -> None:
        """At once at another replica, after a pause at the same one, later where the budget is spent; or give up."""
        self._waiting = None
        now = time.monotonic()
        if self._trouble_at is None:
            self._trouble_at = now
        if now >= self._trouble_at + self._parts.settings.replica_wait_s:
            served_name = self._order.served_name
            self._orderer.gave_up(EngineUnavailable(f"no replica answered for {served_name!r}", retry_after_s=2))
        elif self._has_untried() and self._parts.budget.take(now):
            self.retries += 1
            self.start()
        else:
            self._waiting = asyncio.get_running_loop().call_later(self._pause_s, self._after_pause)
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)

    def _after_pause(self) -> None:
        self._waiting = None
        if self._parts.budget.take(time.monotonic()):
            self.retries += 1
            self.start()
        else:
            self._try_again()

    async def _wait_for_replica(self, now: float) -> None:
        try:
            await replica_of(self._parts, self._order.served_name, self._order.deadline - now)
        except GatewayError as exc:
            self._waiting = None
            self._orderer.gave_up(exc)
        else:
            self._waiting = None
            self.start()
