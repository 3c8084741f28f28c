"""Results of a batch on their way to the registry, in small groups: whatever came while the last group was written."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from registry.batches.batch import BatchResult
from registry.errors import LeaseLost, RegistryError

log = logging.getLogger(__name__)

MOST_UNKEPT: Final = 64
"""Results that may wait for the registry; no further line is asked while so many do."""
_PAUSE_S: Final = 1.0


class LineResults:
    """Writes results until it is cancelled; a registry that does not answer is asked again."""

    def __init__(self, record: Callable[[Sequence[BatchResult]], None]) -> None:
        """*record* blocks until the results are durable; `LeaseLost` if they are not this gateway's to write."""
        self._record = record
        self._unkept: list[BatchResult] = []
        self._changed = asyncio.Condition()
        self.problem = ""
        """Why the last attempt to write failed; empty after one that did not."""

    async def add(self, result: BatchResult) -> None:
        """Have a result written."""
        async with self._changed:
            self._unkept.append(result)
            self._changed.notify_all()

    async def has_room(self) -> None:
        """Return when few enough results wait."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self._unkept) < MOST_UNKEPT)

    async def kept(self) -> None:
        """Return when all results are durable."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._unkept)

    async def run(self) -> None:
        """Write what is added until cancelled. Raises `LeaseLost`."""
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: self._unkept)
                group = list(self._unkept)
            try:
                await asyncio.to_thread(self._record, group)
            except LeaseLost:
                raise
            except RegistryError as exc:
                self.problem = str(exc)
                log.warning("results of a batch not stored, trying again", extra={"error": str(exc)})
                await asyncio.sleep(_PAUSE_S)
                continue
            self.problem = ""
            async with self._changed:
                del self._unkept[: len(group)]
                self._changed.notify_all()
