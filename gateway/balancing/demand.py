"""Which revisions this gateway is asked for: reported, so that replicas load what is missing and keep what is used."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from math import exp
from typing import Final
from uuid import uuid4

from gateway.balancing.balancing import Balancer
from registry.database import Registry
from registry.errors import RegistryError

log = logging.getLogger(__name__)

AVERAGED_S: Final = 120.0
"""Time constant of the average: that of a sudden crowd has two thirds of its requests after so long."""
FORGOTTEN_S: Final = 600.0
"""How long the average of a name that nobody uses any more is kept."""
_A_LITTLE: Final = 0.01
"""The least average of a name that was asked for just now: an answer may be shorter than the time between samples."""
_SAMPLED_EVERY_S: Final = 1.0
"""How often requests in flight are counted for the average."""
_ASK_EVERY_S: Final = 1.0
"""How often a revision that no replica has is asked for while requests wait for it."""


class AveragedDemand:
    """Averages requests at a time by served name over some minutes, so that copies do not come and go with noise."""

    def __init__(self, window_s: float = AVERAGED_S) -> None:
        self._window_s = window_s
        self._averages: dict[str, tuple[float, float]] = {}
        """By served name the average, and when it was computed."""
        self._sums: Counter[str] = Counter()
        self._samples = 0
        self._reported_at: float | None = None

    def sample(self, asking: Mapping[str, int]) -> None:
        """Add the requests that are in flight now."""
        self._sums.update(asking)
        self._samples += 1

    def report(self, used: Iterable[str], now: float) -> dict[str, float]:
        """Return the averages of what was *used* since the last report, at *now* (monotonic); samples begin anew."""
        averages = {name: self._averaged(name, now) for name in {*used, *self._sums}}
        self._sums.clear()
        self._samples = 0
        kept = {name: (each, at) for name, (each, at) in self._averages.items() if now - at < FORGOTTEN_S}
        self._reported_at = now
        self._averages = kept | {name: (each, now) for name, each in averages.items()}
        return averages

    def last(self, name: str) -> float:
        """Return the average as it was reported last; a little where it never was."""
        return self._averages.get(name, (_A_LITTLE, 0.0))[0]

    def _averaged(self, name: str, now: float) -> float:
        present = self._sums[name] / max(1, self._samples)
        before, at = self._averages.get(name, (0.0, self._reported_at))
        weight = 0.0 if at is None else exp((at - now) / self._window_s)
        return max(_A_LITTLE, weight * before + (1 - weight) * present)


class RevisionDemand:
    """Reports to the registry how many requests the balancer counts by served name; `run` does until cancelled."""

    def __init__(self, registry: Registry, balancer: Balancer, report_s: float) -> None:
        self._registry = registry
        self._balancer = balancer
        self._report_s = report_s
        self._gateway = uuid4().hex[:12]
        self._averages = AveragedDemand()
        self._asked_at: dict[str, float] = {}

    async def run(self) -> None:
        """Report every `report_s` seconds what was asked for since, and by how many requests at a time on average."""
        while True:
            reports_at = time.monotonic() + self._report_s
            while (left_s := reports_at - time.monotonic()) > 0:
                await asyncio.sleep(min(left_s, _SAMPLED_EVERY_S))
                self._averages.sample(self._balancer.in_flight_by_name())
            if averages := self._averages.report(self._balancer.take_used(), time.monotonic()):
                await self._store(partial(self._registry.uses.record, self._gateway, averages))

    async def ask_for(self, served_name: str) -> None:
        """Ask for a revision that no replica has and a request waits for: replicas see it at their next look.

        However many requests wait, the registry gets one report a second, and one replica loads the revision once.
        """
        now = time.monotonic()
        if now - self._asked_at.get(served_name, -_ASK_EVERY_S) >= _ASK_EVERY_S:
            # The time is set before the report is sent, as other requests come here meanwhile.
            self._asked_at[served_name] = now
            uses, average = self._registry.uses, self._averages.last(served_name)
            await self._store(partial(uses.await_revision, self._gateway, served_name, average))

    async def _store(self, write: Callable[[], None]) -> None:
        try:
            await asyncio.to_thread(write)
        except RegistryError as exc:
            log.warning("use of revisions not recorded", extra={"error": str(exc)})
