"""The hot path of one gateway process as a whole: what is under way, and time that passes for it."""

from __future__ import annotations

import asyncio
import time
from itertools import count
from secrets import token_hex
from typing import Final, Protocol

from gateway.edge.head import DefaultLines
from gateway.edge.parts import EdgeParts
from gateway.routing.routing import RouteTable

_TICK_S: Final = 0.05
"""How often queued requests are looked at."""
_EXCHANGES_EVERY: Final = 4
"""Ticks between two looks at the requests under way: time-outs are met to 0.2 s."""
_CONNECTIONS_EVERY: Final = 10
"""Ticks between two looks at connections, those of clients and those to engines."""


class Timed(Protocol):
    """Something that ends by itself when it takes too long."""

    def check(self, now: float) -> None:
        """Time has passed; *now* is monotonic."""
        ...


class UnderWay(Timed, Protocol):
    """A request that is being answered."""

    def cut_off(self) -> None:
        """End it now, as the gateway ends."""
        ...


class Edge:
    """One sweep over everything that may take too long, instead of a timer for each."""

    def __init__(self, parts: EdgeParts) -> None:
        self.parts = parts
        self.under_way: set[UnderWay] = set()
        self.clients: set[Timed] = set()
        self.is_draining = False
        """Every answer asks its client to connect anew, elsewhere."""
        self.default_lines = DefaultLines()
        self._table = RouteTable()
        self._process = token_hex(8).encode()
        self._requests = count()
        self._ticks = 0

    async def run(self) -> None:
        """Let time pass for everything until cancelled."""
        while True:
            await asyncio.sleep(_TICK_S)
            self.tick(time.monotonic())

    def tick(self, now: float) -> None:
        """Look at what is due."""
        self._ticks += 1
        self.parts.admission.expire(now)
        if self.parts.feed.table is not self._table:
            self._follow(self.parts.feed.table, now)
        if self._ticks % _EXCHANGES_EVERY == 0:
            for exchange in list(self.under_way):
                exchange.check(now)
        if self._ticks % _CONNECTIONS_EVERY == 0:
            for client in list(self.clients):
                client.check(now)
            self.parts.connections.tidy({endpoint.url for endpoint in self._table.endpoints}, now)

    def new_request_id(self) -> bytes:
        """An id that no other request has, of this gateway or another."""
        return b"req-%b%012x" % (self._process, next(self._requests))

    def close(self) -> None:
        """Cut off what is still under way, and close the connections to engines."""
        for exchange in list(self.under_way):
            exchange.cut_off()
        self.parts.connections.close()

    def _follow(self, table: RouteTable, now: float) -> None:
        before, self._table = self._table, table
        self.parts.health.appeared(table.endpoints, now)
        for pool in table.rooms.keys() | before.rooms.keys():
            if table.rooms.get(pool, 0) != before.rooms.get(pool, 0):
                self.parts.admission.resize(pool, table.rooms.get(pool, 0), now)
