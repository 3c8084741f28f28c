"""Tasks for what one gateway holds by leases: each runs until it ends, loses its lease, or is given back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from registry.errors import RegistryError

log = logging.getLogger(__name__)


class HeldWork(Protocol):
    """Work that is done under a lease."""

    async def run(self) -> None:
        """Return when the work has ended, or is another gateway's."""
        ...


Hold = TypeVar("Hold")
Work = TypeVar("Work", bound=HeldWork)


@dataclass(frozen=True, slots=True)
class _Running(Generic[Hold, Work]):
    hold: Hold
    work: Work
    task: asyncio.Task[None]


class HeldTasks(Generic[Hold, Work]):
    """The work that this gateway does at the moment, by its id."""

    def __init__(self, noun: str, release: Callable[[Hold], object]) -> None:
        """*noun* names a piece of work in the log; *release* gives a lease back and blocks meanwhile."""
        self._noun = noun
        self._release = release
        self._running: dict[str, _Running[Hold, Work]] = {}

    def __len__(self) -> int:
        return len(self._running)

    def __contains__(self, work_id: str) -> bool:
        return work_id in self._running

    def get(self, work_id: str) -> Work | None:
        """Return the work of this id, None if this gateway does not do it."""
        running = self._running.get(work_id)
        return None if running is None else running.work

    def start(self, work_id: str, hold: Hold, work: Work) -> None:
        """Begin the work."""
        task = asyncio.create_task(work.run(), name=work_id)
        self._running[work_id] = _Running(hold, work, task)
        task.add_done_callback(lambda ended: self._ended(work_id, ended))

    async def give_back(self) -> None:
        """Stop all work where it is, and give its leases back."""
        running, self._running = self._running, {}
        for each in running.values():
            each.task.cancel()
        for each in running.values():
            await asyncio.gather(each.task, return_exceptions=True)
            try:
                await asyncio.to_thread(self._release, each.hold)
            except RegistryError as exc:
                log.warning("work is given back only by its lease", extra={"kind": self._noun, "error": str(exc)})

    def _ended(self, work_id: str, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        # What failed here stays held until its lease is over, so that it is not begun again at once.
        if (error := task.exception()) is not None:
            log.error("work failed unforeseen", exc_info=error, extra={"kind": self._noun, "id": work_id})
        self._running.pop(work_id, None)


async def work_while_held(keep: Coroutine[Any, Any, None], work: Coroutine[Any, Any, None]) -> None:
    """Do *work* while *keep* renews its lease, until one of them ends; a cancelled caller ends both.

    Raises `LeaseLost`, and whatever else the one that ended first raised.
    """
    tasks = {asyncio.create_task(keep), asyncio.create_task(work)}
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
