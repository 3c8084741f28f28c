"""The route table, read from the registry again and again; the last one holds while the registry is down."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Mapping
from typing import Final

from gateway.errors import EngineUnavailable
from gateway.routing.route_table import build_table
from gateway.routing.routing import Endpoint, RouteTable
from gateway.settings import GatewaySettings
from registry.database import Registry
from registry.errors import RegistryError, RegistryUnavailable
from registry.states import SlotState

log = logging.getLogger(__name__)


_WHOLE_EVERY_S: Final = 10.0
"""How often everything is read where nothing changed: the watch after a promotion ends with time alone."""


RESTS: Final = 3.0
"""How many times the processor time of a reading the next one waits at least."""
_LONGEST_READING_S: Final = 15.0
"""How long a caller waits for a reading: longer than for a lock of the database, and for a server that vanished."""


class RouteFeed:
    """Holds the current `RouteTable`; `run` refreshes it until cancelled."""

    def __init__(self, registry: Registry, settings: GatewaySettings) -> None:
        self._registry = registry
        self._refresh_s = settings.route_refresh_s
        self._watch_s = settings.rollback_window_s
        self._changed = asyncio.Condition()
        self._reading = asyncio.Lock()
        self._next: asyncio.Task[None] | None = None
        self._built = RouteTable()
        """The last table that was built; it may be equal to `table`."""
        self._numbers: Mapping[str, int] | None = None
        self._whole_at = self._worked_s = 0.0
        self.table = RouteTable()
        self.read_at = 0.0
        """When the registry was last read; unix seconds, 0 before the first reading."""
        self._read_at = -math.inf

    @property
    def latest(self) -> RouteTable:
        """The table of the last reading: as `table` routes, and with what replicas report that changes no route."""
        return self._built

    def age_s(self, now: float) -> float:
        """Return how old the table is; *now* is monotonic."""
        return now - self._read_at

    async def run(self) -> None:
        """Look for changes every `refresh_s` seconds; a failed reading keeps the last table."""
        while True:
            try:
                if not self._is_current():
                    await self.refresh()
            except RegistryError as exc:
                log.warning("route table not refreshed", extra={"error": str(exc)})
            await asyncio.sleep(self.rest_s)

    @property
    def rest_s(self) -> float:
        """Seconds until the next reading: more than `refresh_s` where the last one took processor time from requests.

        A reading that only waited, as for a registry that is away, is made again at once.
        """
        return max(self._refresh_s, RESTS * self._worked_s)

    async def refresh(self) -> None:
        """Bring the table up to date; `RegistryError` if the registry cannot be read.

        Callers that come while one reading runs share the next one: the running one may have begun before their change.
        """
        if self._next is None:
            self._next = asyncio.create_task(self._refresh())
        try:
            async with asyncio.timeout(_LONGEST_READING_S):
                # A caller that is cancelled must not end the reading that others wait for.
                await asyncio.shield(self._next)
        except TimeoutError as exc:
            raise RegistryUnavailable(f"the registry did not answer within {_LONGEST_READING_S:g} s") from exc

    def _is_current(self) -> bool:
        """Whether the database answers at once that nothing has changed, which counts as a reading."""
        numbers, now = self._registry.changes_at_once(), time.monotonic()
        if numbers is None or numbers != self._numbers or now - self._whole_at >= _WHOLE_EVERY_S:
            return False
        self.read_at, self._read_at = time.time(), now
        return True

    async def _refresh(self) -> None:
        async with self._reading:
            # The reading begins here and may miss later changes, so whoever comes from now on gets the next one.
            self._next = None
            built = await asyncio.to_thread(self._read)
        self.read_at, self._read_at = time.time(), time.monotonic()
        if built is not None:
            async with self._changed:
                self.table = built
                self._changed.notify_all()

    def _read(self) -> RouteTable | None:
        """Return the table of now, None if it equals the present one."""
        began = time.thread_time()
        try:
            return self._read_changes()
        finally:
            self._worked_s = time.thread_time() - began

    def _read_changes(self) -> RouteTable | None:
        # The numbers are read before the snapshot: a change in between is read twice, but never missed.
        numbers, now = self._registry.changes(), time.monotonic()
        if numbers == self._numbers and now - self._whole_at < _WHOLE_EVERY_S:
            return None
        self._built = build_table(self._registry.snapshot(self._watch_s), self._built)
        # The numbers are kept last, so that a reading that fails is made again.
        self._numbers, self._whole_at = numbers, now
        return None if self._built == self.table else self._built

    def failure_of(self, served_name: str) -> str:
        """Return why the replicas that tried a revision do not have it; empty if none of them failed."""
        # Of the last reading: a slot that fails changes no endpoint, so `table` may be older.
        source = self._built.source
        replicas = () if source is None else source.replicas
        return "; ".join(
            f"{replica.id}: {slot.message}"
            for replica in replicas
            for slot in replica.slots
            if slot.served_name == served_name and slot.state is SlotState.FAILED
        )

    def watched(self) -> set[str]:
        """Return the ids of the rollouts that answers are evidence for now."""
        return {route.rollout_id for route in self.table.routes.values() if route.rollout_id is not None}

    async def wait_for_endpoints(self, served_name: str, timeout_s: float) -> tuple[Endpoint, ...]:
        """Return the replicas of *served_name*, waiting for one to appear; `EngineUnavailable` after *timeout_s*."""
        try:
            async with asyncio.timeout(timeout_s), self._changed:
                await self._changed.wait_for(lambda: self.table.endpoints_of(served_name))
        except TimeoutError as exc:
            raise EngineUnavailable(
                f"no replica serves {served_name!r} at the moment; `lorry models list` shows what is loaded",
                retry_after_s=2,
            ) from exc
        return self.table.endpoints_of(served_name)
