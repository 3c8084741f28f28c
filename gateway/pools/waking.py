"""The controller's part in waking pools: it has a first replica started where something needs one."""

from __future__ import annotations

import asyncio
import logging
import math
from typing import Final, Protocol

from gateway.errors import EngineUnavailable
from gateway.routing.sleeping import is_to_be_called, reasons_for
from registry.database import Registry
from registry.errors import RegistryError

log = logging.getLogger(__name__)

_LOOK_EVERY_S: Final = 0.25
_CALL_EVERY_S: Final = 2.0
"""How long a call has until the pool's replica should be in the registry, and is made again where it is not."""
_NOTED_EVERY_S: Final = 10.0
"""How long after a call further ones are part of the same wish, and not logged again."""
_FOLLOWED: Final = ("sleeping_pools", "revision_uses", "replicas", "rollouts", "revisions", "adapters")
"""The tables by whose changes a pool may have to be woken."""


class PoolCalls(Protocol):
    """Calls of pools, each of which has a replica started where the pool has none."""

    async def call(self, pool: str) -> None:
        """Return once the pool has been called; the replica comes later. Raises `EngineUnavailable`."""
        ...


class PoolWaker:
    """Calls the pools that are to be awake; `run` does so until cancelled."""

    def __init__(self, registry: Registry, calls: PoolCalls) -> None:
        self._registry = registry
        self._calls = calls
        self._numbers: tuple[int, ...] | None = None
        self._called_at: dict[str, float] = {}

    async def run(self) -> None:
        """Look every quarter of a second, at no more than the change numbers while nothing changes."""
        while True:
            try:
                for pool, reason in (await asyncio.to_thread(self._due)).items():
                    await self._call(pool, reason)
            except (RegistryError, EngineUnavailable) as exc:
                log.warning("pools that are asked for are not woken, trying again", extra={"error": str(exc)})
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _call(self, pool: str, reason: str) -> None:
        now, before = asyncio.get_running_loop().time(), self._called_at.get(pool, -math.inf)
        if now - before >= _CALL_EVERY_S:
            self._called_at[pool] = now
            if now - before >= _NOTED_EVERY_S:
                log.info("a pool that sleeps is called", extra={"pool": pool, "reason": reason})
            await self._calls.call(pool)

    def _due(self) -> dict[str, str]:
        """Return the pools that are to be called, each with the reason."""
        changes = self._registry.changes()
        numbers = tuple(changes.get(name, 0) for name in _FOLLOWED)
        if numbers == self._numbers:
            return {}
        snapshot, now = self._registry.snapshot(), self._registry.transactions.now()
        due = {
            pool.name: next(reasons_for(snapshot, pool, now))
            for pool in snapshot.sleeping_pools
            if is_to_be_called(snapshot, pool, now)
        }
        # While a pool is due it is looked at again, whatever changes.
        self._numbers = None if due else numbers
        return due
