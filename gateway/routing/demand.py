"""What this gateway is asked for: told to the registry, so that replicas load what is missing and keep what is used."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from typing import Final
from uuid import uuid4

from registry.database import Registry
from registry.errors import RegistryError

log = logging.getLogger(__name__)

_ASK_EVERY_S: Final = 1.0
"""How often a revision that no replica has is asked for while requests wait for it."""


class Demand:
    """Counts requests by served name; `run` tells the registry until cancelled."""

    def __init__(self, registry: Registry, report_s: float) -> None:
        self._registry = registry
        self._report_s = report_s
        self._gateway = uuid4().hex[:12]
        self._now: Counter[str] = Counter()
        self._most: dict[str, int] = {}
        self._asked_at: dict[str, float] = {}

    async def run(self) -> None:
        """Say every `report_s` seconds what was asked for since, and by how many requests at a time."""
        while True:
            await asyncio.sleep(self._report_s)
            said, self._most = self._most, {name: count for name, count in self._now.items() if count > 0}
            if said:
                await self._tell(said)

    def begin(self, served_name: str) -> None:
        """One request more."""
        self._now[served_name] += 1
        self._most[served_name] = max(self._now[served_name], self._most.get(served_name, 0))

    def end(self, served_name: str) -> None:
        """One request less."""
        self._now[served_name] -= 1

    async def ask_for(self, served_name: str) -> None:
        """A request waits for a revision that no replica has: replicas see it at their next look.

        However many requests wait, the registry hears of it once a second, and one replica loads it once.
        """
        now = time.monotonic()
        if now - self._asked_at.get(served_name, -_ASK_EVERY_S) >= _ASK_EVERY_S:
            self._asked_at[served_name] = now
            await self._tell({served_name: max(1, self._now[served_name])})

    async def _tell(self, in_flight: dict[str, int]) -> None:
        try:
            await asyncio.to_thread(self._registry.uses.record, self._gateway, in_flight)
        except RegistryError as exc:
            log.warning("use of revisions not recorded", extra={"error": str(exc)})
