"""The actor of an engine replica. Its module imports what that process needs, no HTTP server and no controller."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Final
from uuid import uuid4

from ray.util import get_node_ip_address

from engines.network.reachability import on_node
from engines.replica.adapter_sets import EngineSource
from engines.replica.replica import EngineReplica
from engines.replica.report import Journal
from engines.settings import EngineSettings
from gateway.pools.autoscaling import REQUESTS, reported_load
from gateway.pools.journal import RegistryJournal, ReplicaIdentity
from gateway.pools.keeping_awake import Wakefulness
from gateway.pools.pools import (
    Pool,
    drain_timeout_of,
    engine_source,
    pace_of,
    precision_of,
    prover_of,
    room_of,
    sleeping_pool_of,
)
from gateway.settings import Settings, SettingsSource
from gateway.up.cluster.engine_nodes import NodesJournal, RayNodes
from gateway.up.cluster.node_pool import pool_of_node
from gateway.up.logs import log_to
from gateway.up.part_secrets import hide_secrets
from registry.database import open_registry
from registry.disk import make_private
from registry.liveness.host_name import host_name

_REPLACED_AFTER_S: Final = 60.0
"""How long a loop of the replica may fail until a new process is tried."""


class EngineActor:
    """Supervises one inference server and keeps its row in the registry."""

    async def __init__(self, source: SettingsSource, name: str, prepared: Pool | None, *_others: object) -> None:  # type: ignore[misc]  # Serve awaits it
        """Start the engine. The registry learns when it is ready, not Ray, so that a slow engine is not killed.

        Pool *name* was *prepared* for this machine, or None: then this node decides what is its own. The other pools
        are parameters so that all belong to one application; they are not used.
        """
        settings = source.load()
        self._source = source
        hide_secrets(settings)  # from the engine, which has this environment
        make_private(settings.home)
        log_to(settings.home, "engines")
        self._settings = settings
        self._registry = open_registry(settings.registry)
        self._journal: RegistryJournal | None = None
        self._replica: EngineReplica | None = None
        self._wakefulness: Wakefulness | None = None
        self._nodes: RayNodes | None = None
        self._drain_timeout_s = settings.gateway.drain_timeout_s
        self._running = asyncio.create_task(self._run(name, prepared))

    async def _run(self, name: str, prepared: Pool | None) -> None:
        """Keep an engine of pool *name*; raises why it cannot be prepared here, which `check_health` passes on."""
        settings = self._settings
        pool = prepared
        if pool is None:
            pool = await asyncio.to_thread(pool_of_node, settings, name, self._registry)
        self._registry.artifacts.hold(pool.base.digest)  # a copy of the base model stays while this replica lives
        self._drain_timeout_s = drain_timeout_of(settings, pool.settings)
        if pool.settings.may_sleep:
            sleeping = sleeping_pool_of(pool)
            await asyncio.to_thread(self._registry.sleeping_pools.enter, sleeping)
            self._wakefulness = Wakefulness(self._registry, sleeping)
        identity = _identity(settings, pool)
        # On a cluster gateways of other nodes reach the engine too.
        reachable = on_node(pool.engine, get_node_ip_address())
        placed = reachable.model_copy(update={"log_path": settings.home / "logs" / f"{identity.id}.log"})
        self._journal = RegistryJournal(self._registry, identity)
        engines, journal = await self._engines_of(pool, placed, self._journal)
        self._replica = EngineReplica(
            engines,
            journal,
            prover_of(placed.kind, precision_of(placed)),
            pace_of(settings.engines, settings.gateway.route_refresh_s),
        )
        await self._replica.run()

    async def _engines_of(
        self, pool: Pool, placed: EngineSettings, journal: RegistryJournal
    ) -> tuple[EngineSource, Journal]:
        """Return what the replica gets engines and adapters from, on all nodes of its pool's engines; `StartFailed`."""
        if pool.settings.nodes == 1:
            return engine_source(placed), journal
        self._nodes = RayNodes(self._source, pool.settings, journal.replica_id)
        await self._nodes.prepare()
        return self._nodes.engine_source(placed), NodesJournal(journal, self._nodes)

    async def wake(self) -> None:
        """Do nothing: that a call waits makes Serve start this replica where its pool has none."""

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """The load that the number of replicas follows; Serve itself sees no request."""
        replica, wakefulness = self._replica, self._wakefulness
        if replica is None:
            return {REQUESTS: reported_load(0, is_needed=True)}  # it is being prepared
        is_needed = wakefulness is not None and (replica.is_settling or await asyncio.to_thread(wakefulness.is_needed))
        return {REQUESTS: reported_load(replica.load, is_needed=is_needed)}

    def check_health(self) -> None:
        """Ray replaces this replica when one of its loops keeps failing by errors that are not the engine's."""
        if self._running.done():
            cause = self._running.exception()
            raise RuntimeError(f"the replica's loop has ended: {cause}") from cause
        if self._nodes is not None and (lost := self._nodes.lost):
            raise RuntimeError(f"nodes of the engine are lost: {', '.join(lost)}")
        if self._replica is not None and (down := self._replica.down(_REPLACED_AFTER_S)):
            raise RuntimeError(f"loops of the replica keep failing: {', '.join(down)}")

    async def __del__(self) -> None:
        """Drain: unroute, let requests finish, stop the engine, leave the registry."""
        # The loop ends first: it would start the engine again that the drain stops.
        self._running.cancel()
        if self._replica is not None and self._journal is not None:
            # Four readings of the registry give every gateway the time to see that the replica drains.
            knobs = self._settings.gateway
            await self._replica.drain(4 * knobs.route_refresh_s, self._drain_timeout_s)
            # Where the registry is away, the missing heartbeat marks the replica as gone later.
            with contextlib.suppress(OSError):
                await asyncio.to_thread(self._journal.leave)
        self._registry.close()


def _identity(settings: Settings, pool: Pool) -> ReplicaIdentity:
    engine = pool.engine
    return ReplicaIdentity(
        id=f"{host_name(settings.home)}-{engine.kind}-{uuid4().hex[:6]}",
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
