"""The hot path of one gateway process as a whole: what is under way, and what is due as time passes."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final, Protocol, TypeVar

from gateway.balancing.admission import Admission
from gateway.balancing.replica_health import ReplicaHealth
from gateway.edge.http_message import DefaultLines, RequestIdSource
from gateway.origins import AllowedOrigins
from gateway.routing.route_feed import RouteFeed
from gateway.routing.routing import RouteTable
from gateway.wire.connections import EngineConnections

log = logging.getLogger(__name__)

_TICK_S: Final = 0.05
"""How often queued requests are looked at."""
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


class Edge:
    """A single sweep over everything that may take too long, instead of a timer for each request."""

    def __init__(
        self,
        feed: RouteFeed,
        admission: Admission,
        health: ReplicaHealth,
        connections: EngineConnections,
        origins: AllowedOrigins,
    ) -> None:
        self._feed = feed
        self._admission = admission
        self._health = health
        self._connections = connections
        self.origins = origins
        self.under_way: set[UnderWay] = set()
        self.clients: set[Timed] = set()
        self.is_draining = False
        """Every answer asks its client to connect anew, elsewhere."""
        self.default_lines = DefaultLines()
        self.request_ids = RequestIdSource()
        self._table = RouteTable()
        self._ticks = 0

    async def run(self) -> None:
        """Call `tick` every 50 ms until cancelled."""
        while True:
            await asyncio.sleep(_TICK_S)
            self.tick(time.monotonic())

    def tick(self, now: float) -> None:
        """Look at what is due; each set is copied, as what ends in the sweep leaves its set."""
        self._ticks += 1
        # Overdue requests leave first, so that places which come free go to requests that still have time.
        self._admission.expire(now)
        if self._feed.table is not self._table:
            self._follow(self._feed.table, now)
        if self._ticks % _EXCHANGES_EVERY == 0:
            for exchange in list(self.under_way):
                self._check(exchange, self.under_way, now)
        if self._ticks % _CONNECTIONS_EVERY == 0:
            for client in list(self.clients):
                self._check(client, self.clients, now)
            self._connections.tidy({endpoint.url for endpoint in self._table.endpoints}, now)

    def _check(self, each: T, all_of_them: set[T], now: float) -> None:
        try:
            each.check(now)
        # An error of one must not keep the others from their deadlines, in this sweep and in all that follow.
        except Exception:
            log.exception("a request or connection cannot be checked and is given up")
            all_of_them.discard(each)

    def close(self) -> None:
        """Cut off the requests under way, and close the connections to engines."""
        for exchange in list(self.under_way):
            exchange.cut_off()
        self._connections.close()

    def _follow(self, table: RouteTable, now: float) -> None:
        """Report replicas that came or went, and pools that run another number of requests now."""
        before, self._table = self._table, table
        self._health.appeared(table.endpoints, now)
        # A pool that left the table has no room: its requests wait until a replica comes or their deadline passes.
        for pool in table.request_places.keys() | before.request_places.keys():
            places = table.request_places.get(pool, 0)
            if places != before.request_places.get(pool, 0):
                self._admission.resize(pool, places, now)
