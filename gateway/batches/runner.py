"""The batches of one gateway: which ones it takes over, runs, and gives back."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Sequence
from typing import Final

from gateway.batches.asking import BatchTools
from gateway.batches.batch_run import BatchRun
from gateway.batches.free_places import FreePlaces
from gateway.batches.front_door import FrontDoor
from gateway.batches.held_tasks import HeldTasks
from gateway.edge.parts import Gateway
from registry.batches.batch import Batch, BatchHold
from registry.errors import RegistryError
from registry.liveness.silence import SilenceWatch

log = logging.getLogger(__name__)

LEASE_S: Final = 10.0
"""How long a batch stays with a gateway that does not renew its lease, measured by those that wait for it."""
_LOOK_AT_LOADS_S: Final = 1.0
_MOST_HELD: Final = 64
"""Batches that a gateway runs at a time."""


class BatchRunner:
    """Takes batches over that no gateway runs, and moves them to their ends."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._registry = gateway.registry
        self._name = gateway.siblings.name
        self._tools = BatchTools(gateway=gateway, door=FrontDoor(gateway), places=FreePlaces(gateway))
        self._held = HeldTasks[BatchHold, BatchRun]("batch", self._registry.batches.release)
        self._loads_at = -math.inf
        self._silences = SilenceWatch(self._registry.transactions.steady)

    async def run(self) -> None:
        """Look for batches until cancelled: half as often as for routes while some are open, else an eighth."""
        while True:
            are_open = False
            if self._gateway.edge.is_draining:
                await self._held.give_back()
            elif self._gateway.feed.read_at and self._gateway.keyring.read_at:
                try:
                    are_open = await self._look()
                except RegistryError as exc:
                    # Nobody could renew a lease meanwhile either: all get the time to do so again.
                    self._silences = SilenceWatch(self._registry.transactions.steady)
                    log.warning("batches not looked for, trying again", extra={"error": str(exc)})
            await asyncio.sleep((2 if are_open else 8) * self._gateway.settings.route_refresh_s)

    async def aclose(self) -> None:
        """Stop all batches where they are, and give them back."""
        await self._held.give_back()
        self._tools.door.close()

    async def _look(self) -> bool:
        """Take over what nobody runs; return whether any batch is open."""
        found = await asyncio.to_thread(self._registry.batches.open)
        self._tools.places.sharers = len({batch.holder for batch in found if batch.holder is not None})
        for batch in found:
            if (run := self._held.get(batch.id)) is not None:
                run.note(batch)
        if self._held and (now := time.monotonic()) - self._loads_at > _LOOK_AT_LOADS_S:
            self._loads_at = now
            self._tools.places.look(await asyncio.to_thread(self._registry.replicas.list))
        if (free := self._next(found)) is not None and len(self._held) < _MOST_HELD:
            hold = await asyncio.to_thread(self._registry.batches.claim, free, self._name)
            if hold is not None:
                self._held.start(hold.batch_id, hold, BatchRun(self._tools, hold))
        return bool(found)

    def _next(self, found: Sequence[Batch]) -> Batch | None:
        """Return the oldest batch that no gateway runs; with a look for each, gateways get similar numbers."""
        silences = self._silences.look({batch.id: (batch.attempt, batch.beat) for batch in found})
        free = (batch for batch in found if batch.holder is None or silences[batch.id] > LEASE_S)
        return next((batch for batch in free if batch.id not in self._held), None)
