"""The actor of the controller. Its module imports what that process needs, no HTTP server."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from typing import Final

import httpx2

from gateway.pools.entered_engines import EnteredEngines
from gateway.rollouts.controller import reconcile
from gateway.rollouts.webhooks import Sender, open_sender
from gateway.settings import Settings
from gateway.up.logs import log_to
from registry.database import open_registry
from registry.errors import RegistryError

log = logging.getLogger(__name__)

_SEND_EVERY_S: Final = 1.0


class ControllerActor:
    """The controller, of which one runs; a second would do no harm.

    A loop of its own sends webhooks, so that no receiver holds up the rollouts.
    """

    async def __init__(self, settings: Settings) -> None:  # type: ignore[misc]  # Serve awaits it
        """Start reconciling, and sending webhooks if there is a receiver."""
        log_to(settings.home, "controller")
        self._knobs = settings.gateway
        self._registry = open_registry(settings.registry)
        self._loops = [
            asyncio.create_task(self._reconcile()),
            asyncio.create_task(EnteredEngines(self._registry, settings).run()),
        ]
        if (sender := open_sender(settings.webhooks, os.environ)) is not None:
            self._loops.append(asyncio.create_task(self._send(sender)))

    async def _reconcile(self) -> None:
        while True:
            try:
                await asyncio.to_thread(reconcile, self._registry, self._knobs, time.time())
            # Any other error ends the loop, and `check_health` has Ray replace this controller.
            except RegistryError as exc:
                log.warning("reconcile failed, trying again", extra={"error": str(exc)})
            await asyncio.sleep(self._knobs.reconcile_s)

    async def _send(self, sender: Sender) -> None:
        with httpx2.Client(trust_env=False) as http:
            while True:
                try:
                    await asyncio.to_thread(sender.deliver_due, self._registry, http)
                except RegistryError as exc:
                    log.warning("webhooks stand still, trying again", extra={"error": str(exc)})
                await asyncio.sleep(_SEND_EVERY_S)

    def check_health(self) -> None:
        """Ray replaces this replica when one of its loops has ended."""
        for loop in self._loops:
            if loop.done():
                raise RuntimeError("a loop of the controller has ended") from loop.exception()

    async def __del__(self) -> None:
        """Stop the loops."""
        for loop in self._loops:
            loop.cancel()
        self._registry.close()
