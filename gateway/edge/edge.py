"""The hot path of one gateway process as a whole: what is under way, and what is due as time passes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from gateway.balancing.admission import Admission
from gateway.balancing.replica_health import ReplicaHealth
from gateway.balancing.retry_budget import RetryBudget
from gateway.edge.http_message import DefaultLines, RequestIdSource
from gateway.origins import AllowedOrigins
from gateway.routing.route_feed import RouteFeed
from gateway.routing.routing import RouteTable
from gateway.telemetry.finished import Finished, FinishedListener
from gateway.wire.engine_connections import EngineConnections

log = logging.getLogger(__name__)

_TICK_S: Final = 0.05
"""How often queued requests are looked at."""
_QUIET_TICKS: Final = 4
"""So many ticks are one while no request is under way."""
_EXCHANGES_EVERY: Final = 4
"""Ticks between two looks at the requests under way: time-outs are met to 0.2 s."""
_CONNECTIONS_EVERY: Final = 10
"""Ticks between two looks at connections, those of clients and those to engines."""


class Timed(Protocol):
    """A client's connection or a request, which ends by itself when it takes too long."""

    def check(self, now: float) -> None:
        """Look at what is due; *now* is monotonic."""
        ...


T = TypeVar("T", bound=Timed)


class UnderWay(Timed, Protocol):
    """A request that is being answered."""

    def cut_off(self) -> None:
        """End the request now, as the gateway ends."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """The parts of a gateway that the sweep looks after."""

    feed: RouteFeed
    admission: Admission
    health: ReplicaHealth
    budget: RetryBudget
    connections: EngineConnections


class Edge:
    """A single sweep over all requests instead of a timer for each; no client waits for what the sweep can report."""

    def __init__(self, swept: Swept, origins: AllowedOrigins, listeners: Sequence[FinishedListener]) -> None:
        """*listeners* are called for every request that is over, in their order."""
        self._swept = swept
        self._listeners = listeners
        self.origins = origins
        self.begun = 0
        """Counts the requests that began."""
        self.under_way: set[UnderWay] = set()
        self.over: list[Finished] = []
        """The requests that are over and not reported yet."""
        self.clients: set[Timed] = set()
        self.is_draining = False
        """Every answer asks its client to connect anew, elsewhere."""
        self.default_lines = DefaultLines()
        self.request_ids = RequestIdSource()
        self._table = RouteTable()
        self._ticks = self._budgeted = 0
        self._exchanges_at, self._connections_at = _EXCHANGES_EVERY, _CONNECTIONS_EVERY
        """The ticks at which these are looked at next."""

    async def run(self) -> None:
        """Call `tick` every 50 ms until cancelled, and every 200 ms while no request is under way."""
        while True:
            if self.under_way:
                await asyncio.sleep(_TICK_S)
            else:
                await asyncio.sleep(_QUIET_TICKS * _TICK_S)
                self._ticks += _QUIET_TICKS - 1
            self.tick(time.monotonic())

    def tick(self, now: float) -> None:
        """Look at what is due; each set is copied, as what ends in the sweep leaves its set."""
        self._ticks += 1
        # Overdue requests leave first, so that places which come free go to requests that still have time.
        self._swept.admission.expire(now)
        if self._swept.feed.table is not self._table:
            self._follow(self._swept.feed.table, now)
        self._swept.health.judge_answers()
        self._swept.budget.note_requests(self.begun - self._budgeted, now)
        self._budgeted = self.begun
        self.report()
        if self._ticks >= self._exchanges_at:
            self._exchanges_at = self._ticks + _EXCHANGES_EVERY
            for exchange in list(self.under_way):
                self._check(exchange, self.under_way, now)
        if self._ticks >= self._connections_at:
            self._connections_at = self._ticks + _CONNECTIONS_EVERY
            for client in list(self.clients):
                self._check(client, self.clients, now)
            self._swept.connections.tidy({endpoint.url for endpoint in self._table.endpoints}, now)

    def report(self) -> None:
        """Report the requests that are over to the listeners, as every sweep does."""
        over, self.over = self.over, []
        for facts in over:
            for listener in self._listeners:
                listener.finished(facts)

    def _check(self, each: T, all_of_them: set[T], now: float) -> None:
        try:
            each.check(now)
        # An error of one must not keep the others from their deadlines, in this sweep and in all that follow.
        except Exception:
            log.exception("a request or connection cannot be checked and is given up")
            all_of_them.discard(each)

    def close(self) -> None:
        """Cut off the requests under way, close the connections to engines, and report what is over."""
        for exchange in list(self.under_way):
            exchange.cut_off()
        self._swept.connections.close()
        self.report()

    def _follow(self, table: RouteTable, now: float) -> None:
        """Report replicas that came or went, and pools that run another number of requests now."""
        before, self._table = self._table, table
        self._swept.health.judge_answers()  # of replicas that may be gone now
        self._swept.health.appeared(table.endpoints, now)
        # A pool that left the table has no room: its requests wait until a replica comes or their deadline passes.
        for pool in table.request_places.keys() | before.request_places.keys():
            places = table.request_places.get(pool, 0)
            if places != before.request_places.get(pool, 0):
                self._swept.admission.resize(pool, places, now)
