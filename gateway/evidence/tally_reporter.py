"""The tallies that this process counts of watched rollouts, the answers to rate, and their reports to the registry."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable
from secrets import token_hex
from typing import Final

from gateway.routing.routing import Evidence
from gateway.settings import GatewaySettings
from gateway.telemetry.rollout_metrics import RolloutMetrics
from registry.database import Registry
from registry.errors import RegistryError
from registry.rollouts.answered_completion import AnsweredCompletion
from registry.rollouts.tally import Cell, Tally, total

log = logging.getLogger(__name__)

MOST_UNREPORTED: Final = 100_000
"""Answers kept for later rating while the registry is down; beyond this number the oldest are dropped."""
EXPIRE_EVERY_S: Final = 60.0
"""How often answers that may no longer be rated are deleted from the registry."""


class TallyReporter:
    """Counts in memory and reports the sums to the registry every `observe_flush_s`; counting never waits for it.

    Reports are sums since this process began, not differences, so that a report repeated after a failure counts
    nothing twice.
    """

    def __init__(self, registry: Registry, metrics: RolloutMetrics, settings: GatewaySettings) -> None:
        self._registry = registry
        self.metrics = metrics
        self._settings = settings
        self._one_flush = asyncio.Lock()
        self._new: list[tuple[Cell, Tally]] = []
        self.answered: deque[AnsweredCompletion] = deque(maxlen=MOST_UNREPORTED)
        """Answers that may be rated, until the next report. The hot path appends to it without a call."""
        self._begin_anew()
        self._expired_at = time.monotonic()

    def add(self, evidence: Evidence, replica: str, tally: Tally) -> Cell:
        """Count *tally* for the side that *evidence* names at *replica*, empty where none answered; return its cell."""
        cell = Cell(rollout_id=evidence.rollout_id, step=evidence.step, side=evidence.side, replica=replica)
        self._new.append((cell, tally))
        self.metrics.count(evidence.adapter, evidence.side, tally)
        return cell

    async def run(self, watched: Callable[[], Collection[str]]) -> None:
        """Flush until cancelled; *watched* returns the ids of the rollouts that are still counted."""
        while True:
            await asyncio.sleep(self._settings.observe_flush_s)
            try:
                await self.flush()
                self.forget_all_but(watched())
                await self._expire()
            except RegistryError as exc:
                self.metrics.flush_failures.inc()
                log.warning("tallies not reported, retrying", extra={"error": str(exc)})

    async def flush(self) -> None:
        """Report what was counted before this call. On `RegistryError` the next flush reports it as well."""
        # A flush that is cancelled goes on, since its thread may not have begun yet, and the next one waits for it.
        await asyncio.shield(self._flush())

    async def _flush(self) -> None:
        async with self._one_flush:
            if not (self._new or self.answered or self._unreported):
                return
            new, self._new = self._new, []
            answered, self.answered = self.answered, deque(maxlen=MOST_UNREPORTED)
            try:
                await asyncio.to_thread(self._report, new, answered)
            except RegistryError:
                # The new tallies are in the sums already, so only the answers go back.
                self.answered = deque([*answered, *self.answered], maxlen=MOST_UNREPORTED)
                raise

    def forget_all_but(self, watched: Collection[str]) -> None:
        """Begin new sums under a new id once a counted rollout is no longer *watched* and all was reported."""
        over = any(cell.rollout_id not in watched for cell in self._sums)
        if over and not (self._unreported or self._one_flush.locked()):
            self._begin_anew()

    def _begin_anew(self) -> None:
        # Rows of the old id stay in the registry as they are; sums from zero must not replace them.
        self._id = f"gw-{token_hex(8)}"
        self._sums: dict[Cell, Tally] = {}
        self._unreported: set[Cell] = set()

    def _report(self, new: Iterable[tuple[Cell, Tally]], answered: Collection[AnsweredCompletion]) -> None:
        by_cell: dict[Cell, list[Tally]] = {}
        for cell, tally in new:
            by_cell.setdefault(cell, []).append(tally)
        for cell, tallies in by_cell.items():
            self._sums[cell] = total([self._sums.get(cell, Tally()), *tallies])
            self._unreported.add(cell)
        if self._unreported or answered:
            self._registry.tallies.put(self._id, {cell: self._sums[cell] for cell in self._unreported}, answered)
            # Cells stay unreported until their commit, so the next report repeats what a failure kept back.
            self._unreported.clear()

    async def _expire(self) -> None:
        if time.monotonic() - self._expired_at < EXPIRE_EVERY_S:
            return
        self._expired_at = time.monotonic()
        settings = self._settings
        await asyncio.to_thread(self._registry.feedback.expire, settings.feedback_window_s, settings.feedback_answers)
        await asyncio.to_thread(self._registry.feedback.forget_chats, settings.feedback_chats_s)
