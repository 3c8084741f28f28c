"""Which revisions this gateway is asked for: reported, so that replicas load what is missing and keep what is used."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Final
from uuid import uuid4

from registry.database import Registry
from registry.errors import RegistryError

log = logging.getLogger(__name__)

_ASK_EVERY_S: Final = 1.0
"""How often a revision that no replica has is asked for while requests wait for it."""


class RevisionDemand:
    """Counts requests by served name; `run` reports the counts to the registry until cancelled."""

    def __init__(self, registry: Registry, report_s: float) -> None:
        self._registry = registry
        self._report_s = report_s
        self._gateway = uuid4().hex[:12]
        self._now: Counter[str] = Counter()
        self._most: dict[str, int] = {}
        self._asked_at: dict[str, float] = {}

    async def run(self) -> None:
        """Report every `report_s` seconds what was asked for since, and by how many requests at a time."""
        while True:
            await asyncio.sleep(self._report_s)
            # The next report begins with what is under way, so that a long request counts in each.
            most, self._most = self._most, {name: count for name, count in self._now.items() if count > 0}
            if most:
                await self._store(partial(self._registry.uses.record, self._gateway, most))

    def begin(self, served_name: str) -> None:
        """Count one request more."""
        self._now[served_name] += 1
        self._most[served_name] = max(self._now[served_name], self._most.get(served_name, 0))

    def end(self, served_name: str) -> None:
        """Count one request less."""
        self._now[served_name] -= 1

    async def ask_for(self, served_name: str) -> None:
        """Ask for a revision that no replica has and a request waits for: replicas see it at their next look.

        However many requests wait, the registry gets one report a second, and one replica loads the revision once.
        """
        now = time.monotonic()
        if now - self._asked_at.get(served_name, -_ASK_EVERY_S) >= _ASK_EVERY_S:
            # The time is set before the report is sent, as other requests come here meanwhile.
            self._asked_at[served_name] = now
            uses, count = self._registry.uses, max(1, self._now[served_name])
            await self._store(partial(uses.await_revision, self._gateway, served_name, count))

    async def _store(self, write: Callable[[], None]) -> None:
        try:
            await asyncio.to_thread(write)
        except RegistryError as exc:
            log.warning("use of revisions not recorded", extra={"error": str(exc)})
