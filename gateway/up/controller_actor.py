"""The actor of the controller. Its module imports what that process needs, no HTTP server."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import time
from collections.abc import Mapping
from functools import partial
from typing import Final

import httpx2

from engines.loops import Loops
from gateway.pools.entered_engines import EnteredEngines
from gateway.pools.waking import PoolWaker
from gateway.rollouts.controller import reconcile
from gateway.rollouts.webhooks import Sender, open_sender
from gateway.settings import SettingsSource
from gateway.up.cluster.pool_calls import ServeCalls
from gateway.up.logs import log_to
from registry.database import open_registry
from registry.disk import Liveness
from registry.errors import RegistryError

log = logging.getLogger(__name__)

_SEND_EVERY_S: Final = 1.0
_BEAT_EVERY_S: Final = 1.0
_SWEEP_EVERY_S: Final = 5.0
_WHOLE_EVERY_S: Final = 2.0
"""How often everything is looked at where nothing changed and no rollout is open.

Longer than the pause between two judgements of a promotion, so that each look finds the next one due.
"""
_REPLACED_AFTER_S: Final = 60.0
"""How long a loop may fail, or a step take, until a new process is tried. Both outlast the waits for a database."""


class ControllerActor:
    """A controller. Several on different nodes do no harm: every move is compare-and-set.

    Loops of their own send webhooks and remove expired files, so that neither holds up the rollouts.
    """

    async def __init__(self, source: SettingsSource, secrets: Mapping[str, str]) -> None:  # type: ignore[misc]  # Serve awaits it
        """Start reconciling, and sending webhooks if there is a receiver.

        *secrets* are variables that only this process' environment has.
        """
        os.environ.update(secrets)
        settings = source.load()
        log_to(settings.home, "controller")
        self._knobs = settings.gateway
        self._registry = open_registry(settings.registry)
        sleeping = [pool.name for pool in settings.engines.pools if pool.may_sleep]
        self._registry.sleeping_pools.keep_only(sleeping)
        # A controller may begin just when the database is back, so its start counts as the end of an outage.
        self._stepped_at = self._away_at = time.monotonic()
        self._beat_at = self._whole_at = -math.inf
        self._numbers: Mapping[str, int] = {}
        self._has_open_rollout = True
        self._liveness = Liveness(settings.home, "controller")
        self._loops = Loops()
        self._loops.start("rollouts", self._reconcile)
        self._loops.start("expired_files", self._sweep)
        self._loops.start("entered_engines", EnteredEngines(self._registry, settings).run)
        if sleeping:
            self._loops.start("sleeping_pools", PoolWaker(self._registry, ServeCalls()).run)
        if (sender := open_sender(settings.webhooks, os.environ)) is not None:
            self._loops.start("webhooks", partial(self._send, sender))

    async def _reconcile(self) -> None:
        while True:
            try:
                await asyncio.to_thread(self._step)
            except RegistryError as exc:
                self._away_at = time.monotonic()
                log.warning("reconcile failed, trying again", extra={"error": str(exc)})
            self._stepped_at = time.monotonic()
            await asyncio.sleep(self._knobs.reconcile_s)

    def _step(self) -> None:
        # While the database was away, no replica and no worker could report; all get the time to do so again.
        knows_silence = time.monotonic() - self._away_at > self._knobs.heartbeat_timeout_s
        # The numbers are read first: a change in between is looked at twice, but never missed.
        numbers, now = self._registry.changes(), time.monotonic()
        if self._has_open_rollout or numbers != self._numbers or now - self._whole_at > _WHOLE_EVERY_S:
            step = reconcile(self._registry, self._knobs, time.time(), trusts_silence=knows_silence)
            self._has_open_rollout, self._numbers, self._whole_at = step, numbers, now
        if self._stepped_at - self._beat_at >= _BEAT_EVERY_S:
            self._beat_at = self._stepped_at
            self._liveness.beat()

    async def _send(self, sender: Sender) -> None:
        with httpx2.Client(trust_env=False) as http:
            while True:
                try:
                    await asyncio.to_thread(sender.deliver_due, self._registry, http)
                except RegistryError as exc:
                    log.warning("webhooks stand still, trying again", extra={"error": str(exc)})
                await asyncio.sleep(_SEND_EVERY_S)

    async def _sweep(self) -> None:
        # Not a part of the reconcile step: to remove bytes is to wait for those that publish some at the moment.
        while True:
            try:
                await asyncio.to_thread(self._registry.remove_expired)
            except RegistryError as exc:
                log.warning("expired files are not removed, trying again", extra={"error": str(exc)})
            await asyncio.sleep(_SWEEP_EVERY_S)

    def check_health(self) -> None:
        """Ray replaces this replica when one of its loops keeps failing, or stands still."""
        if down := self._loops.down(_REPLACED_AFTER_S):
            raise RuntimeError(f"loops of the controller keep failing: {', '.join(down)}")
        if time.monotonic() - self._stepped_at > _REPLACED_AFTER_S + self._knobs.reconcile_s:
            raise RuntimeError("the controller stands still: its last step does not end")

    async def __del__(self) -> None:
        """Stop the loops."""
        self._loops.cancel()
        self._registry.close()
