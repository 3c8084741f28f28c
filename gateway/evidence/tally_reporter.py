"""What this process counts of the rollouts that are watched, and how the registry hears of it."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable
from secrets import token_hex
from typing import Final

from gateway.evidence.answer_facts import AnswerFacts
from gateway.routing.routing import Evidence
from gateway.settings import GatewaySettings
from gateway.telemetry.rollout_metrics import RolloutMetrics
from registry.database import Registry
from registry.errors import RegistryError
from registry.rollouts.feedback import AnsweredCompletion
from registry.rollouts.tally import Cell, Tally, total

log = logging.getLogger(__name__)

MOST_UNTOLD: Final = 100_000
"""Answers that can be rated later although the registry is down; beyond it the oldest are forgotten."""
EXPIRE_EVERY_S: Final = 60.0
"""How often answers that may no longer be rated are taken out of the registry."""


class TallyReporter:
    """Sums since this process began, told to the registry every `observe_flush_s`; counting never waits for it.

    What is told are sums, so that telling them again after a failure counts nothing twice.
    """

    def __init__(self, registry: Registry, metrics: RolloutMetrics, settings: GatewaySettings) -> None:
        self._registry = registry
        self.metrics = metrics
        self._settings = settings
        self._one_flush = asyncio.Lock()
        self._one_teller = threading.Lock()  # a flush that was cancelled leaves its thread behind
        self._new: list[tuple[Cell, Tally]] = []
        self._answered: deque[AnsweredCompletion] = deque(maxlen=MOST_UNTOLD)
        self._begin_anew()
        self._expired_at = time.monotonic()

    def add(self, evidence: Evidence, replica: str, tally: Tally) -> None:
        """Count *tally* for the side that *evidence* names at *replica*, empty where no replica answered."""
        self._new.append((_cell(evidence, replica), tally))
        self.metrics.count(evidence.adapter, evidence.side, tally)

    def add_answer(self, evidence: Evidence, replica: str, served_name: str, facts: AnswerFacts) -> None:
        """Count an answer, which may be rated from now on if it has an id and no error."""
        self.add(evidence, replica, facts.tally)
        if facts.completion_id and facts.error is None:
            cell = _cell(evidence, replica)
            now = self._registry.transactions.now()
            self._answered.append(
                AnsweredCompletion(id=facts.completion_id, served_name=served_name, cell=cell, at=now)
            )

    async def run(self, watched: Callable[[], Collection[str]]) -> None:
        """Flush again and again until cancelled; *watched* are the ids of the rollouts that go on being counted."""
        while True:
            await asyncio.sleep(self._settings.observe_flush_s)
            try:
                await self.flush()
                self.forget_all_but(watched())
                await self._expire()
            except RegistryError as exc:
                self.metrics.flush_failures.inc()
                log.warning("observations not told, trying again", extra={"error": str(exc)})

    async def flush(self) -> None:
        """The registry has what was counted before this call; else `RegistryError`, and the next flush tells it too."""
        async with self._one_flush:
            new, self._new = self._new, []
            answered, self._answered = self._answered, deque(maxlen=MOST_UNTOLD)
            try:
                await asyncio.to_thread(self._tell, new, answered)
            except RegistryError:
                self._answered = deque([*answered, *self._answered], maxlen=MOST_UNTOLD)
                raise

    def forget_all_but(self, watched: Collection[str]) -> None:
        """Begin anew, under another id, once rollouts are counted that are no longer *watched* and all was told."""
        over = any(cell.rollout_id not in watched for cell in self._sums)
        if over and not (self._untold or self._one_flush.locked()):
            self._begin_anew()

    def _begin_anew(self) -> None:
        self._id = f"gw-{token_hex(8)}"
        self._sums: dict[Cell, Tally] = {}
        self._untold: set[Cell] = set()

    def _tell(self, new: Iterable[tuple[Cell, Tally]], answered: Collection[AnsweredCompletion]) -> None:
        by_cell: dict[Cell, list[Tally]] = {}
        for cell, tally in new:
            by_cell.setdefault(cell, []).append(tally)
        with self._one_teller:
            for cell, tallies in by_cell.items():
                self._sums[cell] = total([self._sums.get(cell, Tally()), *tallies])
                self._untold.add(cell)
            if self._untold or answered:
                self._registry.tallies.put(self._id, {cell: self._sums[cell] for cell in self._untold}, answered)
                self._untold.clear()

    async def _expire(self) -> None:
        if time.monotonic() - self._expired_at < EXPIRE_EVERY_S:
            return
        self._expired_at = time.monotonic()
        await asyncio.to_thread(self._registry.feedback.expire, self._settings.feedback_window_s)


def _cell(evidence: Evidence, replica: str) -> Cell:
    return Cell(rollout_id=evidence.rollout_id, step=evidence.step, side=evidence.side, replica=replica)
