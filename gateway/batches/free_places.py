"""The places in pools that batches may use at the moment, given to their lines in the order in which they ask."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Final

from gateway.batches.parallelism import BatchShares, PoolLoad, lines_allowed
from gateway.edge.parts import Gateway
from gateway.routing.paths import PathKind
from gateway.routing.routing import Endpoint
from registry.types import Replica

_LOOK_AGAIN_S: Final = 0.1
"""How often a line that waits looks whether clients have left places, which nobody reports to it."""
_VISIT_S: Final = 10.0
"""How long after a client's last request a pool counts as visited: people pause between two requests."""
_REMEMBERED: Final = 8
"""Looks over which our own requests are subtracted from the replicas' figures, which are seconds old."""


class Place:
    """A place of one line in a pool."""

    def __init__(self, give_back: Callable[[], None]) -> None:
        self._give_back: Callable[[], None] | None = give_back

    def leave(self) -> None:
        """Give the place back; doing so again does nothing."""
        give_back, self._give_back = self._give_back, None
        if give_back is not None:
            give_back()


class FreePlaces:
    """Lets lines of batches begin while there are places that no client needs."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._under_way: Counter[str] = Counter()
        self._queues: dict[str, deque[object]] = {}
        self._elsewhere: Mapping[str, int] = {}
        self._running: deque[Mapping[str, int]] = deque(maxlen=_REMEMBERED)
        self._visited_at: dict[str, float] = {}
        self._changed = asyncio.Event()
        self._shares = BatchShares(
            alone=gateway.settings.batch_share, beside_clients=gateway.settings.batch_share_beside_clients
        )
        self.sharers = 1
        """How many gateways run batches."""

    def look(self, replicas: Iterable[Replica]) -> None:
        """Note what the replicas have to do for other gateways, by their own figures."""
        loads: Counter[str] = Counter()
        for each in replicas:
            loads[each.pool] += each.load
        self._running.append({pool: self._gateway.admission.running(pool) for pool in loads})
        self._elsewhere = {
            pool: max(0, load - max(running.get(pool, 0) for running in self._running)) for pool, load in loads.items()
        }

    async def enter(self, kind: PathKind, model: str) -> Place:
        """Return once a line may begin, with its place."""
        pool = self._pool_of(kind, model)
        if pool is None:
            pool = await self._served(kind, model)
        mark = object()
        queue = self._queues.setdefault(pool, deque())
        queue.append(mark)
        try:
            while queue[0] is not mark or not self._has_place(pool):
                await self._wait()
            self._under_way[pool] += 1
        finally:
            queue.remove(mark)
            self._wake()
        return Place(partial(self._leave, pool))

    async def _served(self, kind: PathKind, model: str) -> str:
        """Return the pool that answers *model* once a replica does; one that sleeps is woken."""
        with self._gateway.cold_starts.awaiting(self._served_name(model)):
            while (pool := self._pool_of(kind, model)) is None:  # noqa: ASYNC110  the table is replaced, no event
                await asyncio.sleep(_LOOK_AGAIN_S)
        return pool

    def is_served(self, kind: PathKind, model: str) -> bool:
        """Whether a replica is there, or the model is unknown, which each line reports."""
        return self._pool_of(kind, model) is not None

    def _leave(self, pool: str) -> None:
        self._under_way[pool] -= 1
        self._wake()

    def _has_place(self, pool: str) -> bool:
        gateway, own = self._gateway, self._under_way[pool]
        places = gateway.feed.table.request_places.get(pool, 0) / gateway.settings.room_factor
        interactive = max(0, gateway.admission.running(pool) - own) + self._elsewhere.get(pool, 0)
        now = time.monotonic()
        if interactive:
            self._visited_at[pool] = now
        load = PoolLoad(
            places=places,
            interactive=interactive,
            is_visited=now - self._visited_at.get(pool, -math.inf) < _VISIT_S,
            waiting=gateway.admission.waiting(pool),
        )
        return own < lines_allowed(load, self._shares, self.sharers)

    def _pool_of(self, kind: PathKind, model: str) -> str | None:
        """Return the pool that answers *model*; None while no replica does. A name that is unknown is asked anyway."""
        found = self._endpoints(kind, model)
        if found is None:
            return ""
        return found[0].pool if found else None

    def _endpoints(self, kind: PathKind, model: str) -> tuple[Endpoint, ...] | None:
        table, name = self._gateway.feed.table, self._served_name(model)
        is_known = table.aliases.get(model, model) in table.routes or table.knows(name)
        return table.endpoints_of(name) if is_known else None

    def _served_name(self, model: str) -> str:
        table = self._gateway.feed.table
        name = table.aliases.get(model, model)
        route = table.routes.get(name)
        return name if route is None else route.stable or route.canary or name

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(_LOOK_AGAIN_S):
                await self._changed.wait()
        except TimeoutError:
            return

    def _wake(self) -> None:
        """Have all that wait look again."""
        self._changed.set()
        self._changed = asyncio.Event()
