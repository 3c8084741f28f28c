"""The actor of an engine replica. Its module imports what that process needs, no HTTP server and no controller."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Final
from uuid import uuid4

from engines.replica.replica import EngineReplica
from gateway.pools.autoscaling import REQUESTS
from gateway.pools.journal import RegistryJournal, ReplicaIdentity, host_prefix
from gateway.pools.pools import Pool, engine_source, pace_of, precision_of, prover_of, room_of
from gateway.settings import Settings
from gateway.up.logs import log_to
from registry.database import open_registry

_REPLACED_AFTER_S: Final = 60.0
"""How long a loop of the replica may fail until a new process is tried."""


class EngineActor:
    """Supervises one inference server and keeps its row in the registry."""

    async def __init__(self, settings: Settings, pool: Pool, *_others: object) -> None:  # type: ignore[misc]  # Serve awaits it
        """Start the engine. The registry learns when it is ready, not Ray, so that a slow engine is not killed.

        The other pools are parameters so that all belong to one application; they are not used.
        """
        log_to(settings.home, "engines")
        engine = pool.engine
        identity = ReplicaIdentity(
            id=f"{host_prefix()}{engine.kind}-{uuid4().hex[:6]}",
            pool=pool.settings.name,
            base=pool.base.name,
            adapters_of=pool.settings.serves_adapters_of or "",
            engine=engine.kind,
            capacity=engine.max_adapters,
            max_rank=engine.max_rank,
            room=room_of(engine, settings.gateway.room_factor),
            rollback_window_s=settings.gateway.rollback_window_s,
            started_at=time.time(),
        )
        placed = engine.model_copy(update={"log_path": settings.home / "logs" / f"{identity.id}.log"})
        self._knobs = settings.gateway
        self._registry = open_registry(settings.registry)
        self._journal = RegistryJournal(self._registry, identity)
        self._replica = EngineReplica(
            engine_source(placed),
            self._journal,
            prover_of(engine.kind, precision_of(engine)),
            pace_of(settings.engines, settings.gateway.route_refresh_s),
        )
        self._running = asyncio.create_task(self._replica.run())

    def record_autoscaling_stats(self) -> dict[str, float]:
        """The load that the number of replicas follows; Serve itself sees no request."""
        return {REQUESTS: float(self._replica.load)}

    def check_health(self) -> None:
        """Ray replaces this replica when one of its loops keeps failing by errors that are not the engine's."""
        if self._running.done():
            raise RuntimeError("the replica's loop has ended") from self._running.exception()
        if down := self._replica.down(_REPLACED_AFTER_S):
            raise RuntimeError(f"loops of the replica keep failing: {', '.join(down)}")

    async def __del__(self) -> None:
        """Drain: unroute, let requests finish, stop the engine, leave the registry."""
        # The loop ends first: it would start the engine again that the drain stops.
        self._running.cancel()
        # Four readings of the registry give every gateway the time to see that the replica drains.
        await self._replica.drain(4 * self._knobs.route_refresh_s, self._knobs.drain_timeout_s)
        # Where the registry is away, the missing heartbeat marks the replica as gone later.
        with contextlib.suppress(OSError):
            await asyncio.to_thread(self._journal.leave)
        self._registry.close()
