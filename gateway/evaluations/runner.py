"""The evaluations of one gateway: which ones it takes over, runs, and gives back."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from gateway.batches.front_door import FrontDoor
from gateway.batches.held_tasks import HeldTasks
from gateway.edge.parts import Gateway
from gateway.evaluations.evaluation_run import EvaluationRun
from registry.errors import RegistryError
from registry.evaluations.evaluation import LORRY, EvaluationHold
from registry.liveness.silence import SilenceWatch

log = logging.getLogger(__name__)

LEASE_S: Final = 10.0
"""How long an evaluation stays with a gateway that does not renew its lease, measured by those that wait for it."""
_MOST_HELD: Final = 8
"""Evaluations that a gateway runs at a time."""


class EvaluationRunner:
    """Takes evaluations over that no gateway runs, and moves them to their ends."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._store = gateway.registry.evaluations
        self._name = gateway.siblings.name
        self._door = FrontDoor(gateway)
        self._held = HeldTasks[EvaluationHold, EvaluationRun]("evaluation", self._store.release)
        self._silences = SilenceWatch(gateway.registry.transactions.steady)

    async def run(self) -> None:
        """Look for evaluations until cancelled: half as often as for routes while some are open, else an eighth."""
        while True:
            are_open = False
            if self._gateway.edge.is_draining:
                await self._held.give_back()
            elif self._gateway.feed.read_at and self._gateway.keyring.read_at:
                try:
                    are_open = await self._look()
                except RegistryError as exc:
                    # Nobody could renew a lease meanwhile either: all get the time to do so again.
                    self._silences = SilenceWatch(self._gateway.registry.transactions.steady)
                    log.warning("evaluations not looked for, trying again", extra={"error": str(exc)})
            await asyncio.sleep((2 if are_open else 8) * self._gateway.settings.route_refresh_s)

    async def aclose(self) -> None:
        """Stop all evaluations where they are, and give them back."""
        await self._held.give_back()
        self._door.close()

    async def _look(self) -> bool:
        """Take over what nobody runs; return whether any evaluation is open."""
        found = [each for each in await asyncio.to_thread(self._store.open) if each.tool == LORRY]
        silences = self._silences.look({each.id: (each.attempt, each.beat) for each in found})
        for each in found:
            is_free = each.holder is None or silences[each.id] > LEASE_S
            if is_free and each.id not in self._held and len(self._held) < _MOST_HELD:
                if (hold := await asyncio.to_thread(self._store.claim, each, self._name)) is not None:
                    run = EvaluationRun(self._gateway, self._door, hold)
                    self._held.start(hold.evaluation_id, hold, run)
                # With one for each look, gateways get similar numbers.
                break
        return bool(found)
