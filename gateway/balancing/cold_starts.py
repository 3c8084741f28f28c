"""The requests that wait for pools without a replica: reported, so that the controller has one started."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from gateway.balancing.demand import RevisionDemand

_ASK_EVERY_S: Final = 1.0
"""How often a name is asked for while requests wait for its pool."""


class ColdStarts:
    """Counts the waiting requests by served name; `run` asks for these names until cancelled.

    A name is one row of the registry, however many requests wait, and counts as awaited for some seconds after each
    report: so nobody has to take it back where a gateway dies or its clients leave.
    """

    def __init__(self, demand: RevisionDemand) -> None:
        self._demand = demand
        self._waiting: Counter[str] = Counter()
        self._came = asyncio.Event()

    def begin(self, served_name: str) -> None:
        """Count one waiting request more."""
        self._waiting[served_name] += 1
        self._came.set()

    def end(self, served_name: str) -> None:
        """Count one waiting request less."""
        self._waiting[served_name] -= 1
        if not self._waiting[served_name]:
            del self._waiting[served_name]

    @contextmanager
    def awaiting(self, served_name: str) -> Iterator[None]:
        """Count one waiting request within the block."""
        self.begin(served_name)
        try:
            yield
        finally:
            self.end(served_name)

    async def run(self) -> None:
        """Ask for every name that requests wait for, at once and then every second."""
        while True:
            await self._came.wait()
            self._came.clear()
            while self._waiting:
                for served_name in list(self._waiting):
                    await self._demand.ask_for(served_name)
                await asyncio.sleep(_ASK_EVERY_S)
