"""The evaluations of one gateway: which ones it takes over, runs, and gives back."""

from __future__ import annotations

import asyncio
import logging
from typing import Final, NamedTuple

from gateway.batches.front_door import FrontDoor
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


class _Running(NamedTuple):
    """An evaluation that this gateway runs."""

    hold: EvaluationHold
    task: asyncio.Task[None]


class EvaluationRunner:
    """Takes evaluations over that no gateway runs, and moves them to their ends."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._store = gateway.registry.evaluations
        self._name = gateway.siblings.name
        self._door = FrontDoor(gateway)
        self._running: dict[str, _Running] = {}
        self._silences = SilenceWatch(gateway.registry.transactions.steady)

    async def run(self) -> None:
        """Look for evaluations until cancelled: half as often as for routes while some are open, else an eighth."""
        while True:
            are_open = False
            if self._gateway.edge.is_draining:
                await self._give_back()
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
        await self._give_back()
        self._door.close()

    async def _look(self) -> bool:
        """Take over what nobody runs; return whether any evaluation is open."""
        found = [each for each in await asyncio.to_thread(self._store.open) if each.tool == LORRY]
        silences = self._silences.look({each.id: (each.attempt, each.beat) for each in found})
        for each in found:
            is_free = each.holder is None or silences[each.id] > LEASE_S
            if is_free and each.id not in self._running and len(self._running) < _MOST_HELD:
                if (hold := await asyncio.to_thread(self._store.claim, each, self._name)) is not None:
                    self._start(hold)
                # With one for each look, gateways get similar numbers.
                break
        return bool(found)

    def _start(self, hold: EvaluationHold) -> None:
        run = EvaluationRun(self._gateway, self._door, hold)
        task = asyncio.create_task(run.run(), name=hold.evaluation_id)
        self._running[hold.evaluation_id] = _Running(hold, task)
        task.add_done_callback(lambda ended: self._ended(hold, ended))

    def _ended(self, hold: EvaluationHold, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        # One that failed here stays held until its lease is over, so that it is not begun again at once.
        if (error := task.exception()) is not None:
            log.error("an evaluation failed unforeseen", exc_info=error, extra={"evaluation": hold.evaluation_id})
        self._running.pop(hold.evaluation_id, None)

    async def _give_back(self) -> None:
        running, self._running = self._running, {}
        for each in running.values():
            each.task.cancel()
        for each in running.values():
            await asyncio.gather(each.task, return_exceptions=True)
            try:
                await asyncio.to_thread(self._store.release, each.hold)
            except RegistryError as exc:
                log.warning("an evaluation is given back only by its lease", extra={"error": str(exc)})
