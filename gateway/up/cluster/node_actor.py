"""The actor of an engine's part on a node beyond its first. Ray pickles a class by its module's name."""

from __future__ import annotations

import asyncio
import os

from ray.util import get_node_ip_address

from engines.drivers.further_node import FurtherNode, PartEnd
from engines.network.node_place import MeetingPoint, place_on_node
from gateway.errors import StartFailed
from gateway.settings import SettingsSource
from gateway.up.cluster.node_pool import pool_of_node
from gateway.up.logs import log_to
from gateway.up.part_secrets import hide_secrets
from registry.database import open_registry
from registry.disk import make_private


class NodeActor:
    """Has the devices of one replica on this node, and runs the process that computes on them."""

    def __init__(self, source: SettingsSource, pool: str, replica: str, rank: int) -> None:
        """Open what this node has of Lorry; nothing is prepared yet."""
        self._settings = source.load()
        hide_secrets(self._settings)  # from the engine, which has this environment
        make_private(self._settings.home)
        log_to(self._settings.home, "engines")
        self._registry = open_registry(self._settings.registry)
        self._pool, self._replica, self._rank = pool, replica, rank
        self._node: FurtherNode | None = None
        self._held = set[str]()

    async def stay(self) -> None:
        """Never return: the caller learns by an error that this actor is lost."""
        await asyncio.Event().wait()

    async def prepare(self) -> str:
        """Return this node's address once base model and environment of the engine are found here.

        `StartFailed` with the node's name for what is not on it; `RegistryError`.
        """
        pool = await asyncio.to_thread(pool_of_node, self._settings, self._pool, self._registry)
        self._registry.artifacts.hold(pool.base.digest)
        log_path = self._settings.home / "logs" / f"{self._replica}-node-{self._rank}.log"
        self._node = FurtherNode(pool.engine.model_copy(update={"log_path": log_path}))
        return str(get_node_ip_address())

    async def start(self, meeting: MeetingPoint) -> None:
        """Start this node's process, which meets the others; `EngineError`."""
        await self._prepared().start(place_on_node(meeting, self._rank, get_node_ip_address(), os.environ))

    async def wait_exit(self) -> PartEnd:
        """Return how the process has ended, once it has."""
        return await self._prepared().wait_exit()

    async def stop(self) -> None:
        """End the process."""
        await self._prepared().stop()

    async def fetch(self, artifact: str) -> str:
        """Return the path of the artifact's folder here, its bytes verified; it stays until `keep` is without it.

        `RegistryError`.
        """
        folder = await asyncio.to_thread(self._registry.artifacts.folder, artifact)
        if artifact not in self._held:
            self._registry.artifacts.hold(artifact)
            self._held.add(artifact)
        return str(folder)

    async def keep(self, artifacts: frozenset[str]) -> None:
        """Keep the copies of these artifacts here, and of no others."""
        for artifact in self._held - artifacts:
            self._registry.artifacts.release(artifact)
        for artifact in artifacts - self._held:
            self._registry.artifacts.hold(artifact)
        self._held = set(artifacts)

    def _prepared(self) -> FurtherNode:
        if self._node is None:
            raise StartFailed(f"the part of pool {self._pool!r} on node {get_node_ip_address()} was not prepared")
        return self._node
