"""Background loops of a process: each is begun again after an error, and is reported while it does not run."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

log = logging.getLogger(__name__)

FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 10.0
_SETTLED_S: Final = 5.0
"""How long a loop has to run after an error until it counts as running, and its next pause as the first one."""


@dataclass(slots=True)
class _Loop:
    """A loop and how it has fared."""

    task: asyncio.Task[None]
    began: float
    restarts: int = 0
    is_pausing: bool = False
    failing_since: float | None = None
    """When the first of the errors came that were less than `_SETTLED_S` apart."""


class Loops:
    """Loops that run until `aclose`, whatever they raise. Every error is logged with its traceback."""

    def __init__(self, first_pause_s: float = FIRST_PAUSE_S) -> None:
        """A loop that fails again at once waits from *first_pause_s* up to 10 s."""
        self._first_pause_s = first_pause_s
        self._loops: dict[str, _Loop] = {}

    def start(self, name: str, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run *run* under this name, again and again; it should return only when it is cancelled."""
        self._loops[name] = _Loop(asyncio.create_task(self._keep(name, run), name=name), time.monotonic())

    def down(self, for_s: float = 0.0) -> tuple[str, ...]:
        """Return the loops that wait to be begun again, or were begun only now, for at least *for_s* seconds."""
        now = time.monotonic()
        return tuple(name for name, loop in self._loops.items() if _is_down(loop, now, for_s))

    @property
    def restarts(self) -> dict[str, int]:
        """How often each loop was begun again."""
        return {name: loop.restarts for name, loop in self._loops.items()}

    def cancel(self) -> None:
        """End all loops, without waiting for their end."""
        for loop in self._loops.values():
            loop.task.cancel()

    async def ended(self) -> None:
        """Return when all loops have ended, which only `cancel` does."""
        await asyncio.wait([loop.task for loop in self._loops.values()])

    async def aclose(self) -> None:
        """End all loops and return when they have ended."""
        self.cancel()
        if self._loops:
            await self.ended()

    async def _keep(self, name: str, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        pause_s = self._first_pause_s
        while True:
            loop = self._loops[name]
            loop.began, loop.is_pausing = time.monotonic(), False
            try:
                await run()
                log.error("a background loop ended; it is begun again", extra={"loop": name})
            except asyncio.CancelledError:
                # Only `cancel` ends a loop: a cancellation of something that it waited for is an error like others.
                if (own := asyncio.current_task()) is None or own.cancelling():
                    raise
                log.exception("a background loop was cut off; it is begun again", extra={"loop": name})
            except Exception:  # the outermost loop of what runs in the background
                log.exception("a background loop failed; it is begun again", extra={"loop": name})
            now = time.monotonic()
            if now - loop.began > _SETTLED_S or loop.failing_since is None:
                loop.failing_since, pause_s = now, self._first_pause_s
            loop.restarts, loop.is_pausing = loop.restarts + 1, True
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _is_down(loop: _Loop, now: float, for_s: float) -> bool:
    if loop.failing_since is None or now - loop.failing_since < for_s:
        return False
    return loop.is_pausing or now - loop.began < _SETTLED_S


def log_failure(task: asyncio.Task[Any]) -> None:
    """Log what a task raised that nobody waits for: a callback for `add_done_callback`."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("a background task failed", exc_info=error, extra={"task": task.get_name()})
