"""Blocking calls of the registry that are made again while the registry is away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

from registry.errors import ArtifactCorrupt, IllegalMove, LeaseLost, NotFound, NotStorable, RegistryError, StaleState

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 10.0


class RegistryCalls:
    """Makes the calls of one piece of work."""

    def __init__(self, subject: str) -> None:
        """*subject* names the work in the log."""
        self._subject = subject
        self.problem = ""
        """Why the work does not go on; empty while it does."""

    async def kept(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return the result of the call; what the registry refuses for good is raised."""
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                result = await asyncio.to_thread(call, *args, **kwargs)
            except (LeaseLost, StaleState, IllegalMove, NotFound, NotStorable, ArtifactCorrupt):
                raise
            except RegistryError as exc:
                self.problem = str(exc)
                log.warning("work waits for the registry", extra={"subject": self._subject, "error": str(exc)})
                await asyncio.sleep(pause_s)
                pause_s = min(_LONGEST_PAUSE_S, 2 * pause_s)
            else:
                self.problem = ""
                return result
