"""Heartbeat, adapters and proof for engines that were entered by hand; replicas of a pool have their own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engines.drivers.adopted import AdoptedEngine
from engines.replica.adapter_sets import EngineSource
from engines.replica.replica import EngineReplica
from engines.settings import EngineSettings
from gateway.pools.journal import RegistryJournal, ReplicaIdentity
from gateway.pools.pools import pace_of, prover_of, stored_precision
from gateway.settings import Settings
from registry.database import Registry
from registry.errors import RegistryError
from registry.types import Base, EnteredEngine

log = logging.getLogger(__name__)

_LOOK_EVERY_S: Final = 2.0
_HIGHEST_RANK: Final = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class _Minded:
    """An entered engine and the loop that reports it."""

    replica: EngineReplica
    journal: RegistryJournal
    running: asyncio.Task[None]


class EnteredEngines:
    """An `EngineReplica` for each entered engine; one that is removed from the list drains and leaves."""

    def __init__(self, registry: Registry, settings: Settings) -> None:
        self._registry = registry
        self._settings = settings
        self._minded: dict[str, _Minded] = {}

    async def run(self) -> None:
        """Follow the registry's list until cancelled."""
        try:
            while True:
                try:
                    await self.step()
                except RegistryError as exc:
                    log.warning("entered engines not read, trying again", extra={"error": str(exc)})
                await asyncio.sleep(_LOOK_EVERY_S)
        finally:
            for minded in self._minded.values():
                minded.running.cancel()

    async def step(self) -> None:
        """Start a replica for each new engine on the list, end those that are no longer on it; `RegistryError`."""
        entered = {engine.id: engine for engine in await asyncio.to_thread(self._registry.entered.list)}
        for replica_id in self._minded.keys() - entered.keys():
            await self._let_go(self._minded.pop(replica_id))
        for replica_id, engine in entered.items():
            minded = self._minded.get(replica_id)
            # A loop that ended by an error is begun anew below; the other engines go on meanwhile.
            if minded is not None and minded.running.done():
                log.error("looking after it ended", exc_info=minded.running.exception(), extra={"replica": replica_id})
            if minded is None or minded.running.done():
                self._minded[replica_id] = await self._mind(engine)

    def _base(self, name: str) -> Base:
        return self._registry.at_hand(self._registry.bases.get(name))

    async def _mind(self, entered: EnteredEngine) -> _Minded:
        base = await asyncio.to_thread(self._base, entered.base)
        engine = adopted_settings(entered, Path(base.path))
        identity = ReplicaIdentity(
            id=entered.id,
            pool="",
            base=entered.base,
            engine=entered.engine,
            capacity=entered.capacity,
            max_rank=0,
            room=0,
            rollback_window_s=self._settings.gateway.rollback_window_s,
            started_at=time.time(),
        )
        journal = RegistryJournal(self._registry, identity)
        source = EngineSource(build=lambda _: AdoptedEngine(entered.url, engine), live_adapters=True)
        prover = prover_of(entered.engine, stored_precision(engine.base_path))
        pace = pace_of(self._settings.engines, self._settings.gateway.route_refresh_s)
        replica = EngineReplica(source, journal, prover, pace)
        return _Minded(replica=replica, journal=journal, running=asyncio.create_task(replica.run()))

    async def _let_go(self, minded: _Minded) -> None:
        # The loop ends first, so that no report of it follows `leave`.
        minded.running.cancel()
        gateway = self._settings.gateway
        # Four readings of the registry give every gateway the time to see that the engine drains.
        await minded.replica.drain(4 * gateway.route_refresh_s, gateway.drain_timeout_s)
        # Where the registry is away, the missing heartbeat marks the replica as gone later.
        with contextlib.suppress(OSError):
            await asyncio.to_thread(minded.journal.leave)


def adopted_settings(entered: EnteredEngine, base_path: Path) -> EngineSettings:
    """Return settings for an engine that somebody else started; such an engine refuses too high ranks itself."""
    return EngineSettings(
        kind=entered.engine,
        base_path=base_path,
        base_name=entered.base,
        log_path=Path("/dev/null"),
        max_adapters=entered.capacity,
        max_rank=_HIGHEST_RANK,
    )
