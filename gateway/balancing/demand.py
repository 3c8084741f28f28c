"""Which revisions this gateway is asked for: reported, so that replicas load what is missing and keep what is used."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Final
from uuid import uuid4

from gateway.balancing.balancing import Balancer
from registry.database import Registry
from registry.errors import RegistryError

log = logging.getLogger(__name__)

_ASK_EVERY_S: Final = 1.0
"""How often a revision that no replica has is asked for while requests wait for it."""


class RevisionDemand:
    """Reports to the registry how many requests the balancer counts by served name; `run` does until cancelled."""

    def __init__(self, registry: Registry, balancer: Balancer, report_s: float) -> None:
        self._registry = registry
        self._balancer = balancer
        self._report_s = report_s
        self._gateway = uuid4().hex[:12]
        self._asked_at: dict[str, float] = {}

    async def run(self) -> None:
        """Report every `report_s` seconds what was asked for since, and by how many requests at a time."""
        while True:
            await asyncio.sleep(self._report_s)
            if most := self._balancer.take_peaks():
                await self._store(partial(self._registry.uses.record, self._gateway, most))

    async def ask_for(self, served_name: str) -> None:
        """Ask for a revision that no replica has and a request waits for: replicas see it at their next look.

        However many requests wait, the registry gets one report a second, and one replica loads the revision once.
        """
        now = time.monotonic()
        if now - self._asked_at.get(served_name, -_ASK_EVERY_S) >= _ASK_EVERY_S:
            # The time is set before the report is sent, as other requests come here meanwhile.
            self._asked_at[served_name] = now
            uses, count = self._registry.uses, max(1, self._balancer.asking(served_name))
            await self._store(partial(uses.await_revision, self._gateway, served_name, count))

    async def _store(self, write: Callable[[], None]) -> None:
        try:
            await asyncio.to_thread(write)
        except RegistryError as exc:
            log.warning("use of revisions not recorded", extra={"error": str(exc)})
