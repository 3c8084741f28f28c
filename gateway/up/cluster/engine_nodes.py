"""The further nodes of a replica whose engine has several: actors in the other bundles of its placement group.

They live as long as the replica. A process of theirs that ends is started again with the engine; a node that is lost
takes its replica with it, and Serve finds other nodes for a new one.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from signal import SIGKILL
from typing import Any, Final, cast

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util import get_current_placement_group, get_node_ip_address
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from engines.catalog import build_engine, live_adapters
from engines.drivers.further_node import PartEnd
from engines.drivers.server_process import free_port
from engines.drivers.several_nodes import SeveralNodesEngine
from engines.errors import EngineStartFailed
from engines.network.node_place import MeetingPoint, place_on_node
from engines.replica.adapter_sets import EngineSource
from engines.replica.report import ReplicaReport
from engines.settings import EngineSettings
from gateway.engines_settings import PoolSettings
from gateway.errors import StartFailed
from gateway.pools.journal import RegistryJournal
from gateway.settings import SettingsSource
from gateway.up.cluster.node_actor import NodeActor
from gateway.up.cluster.placement_options import actor_options

log = logging.getLogger(__name__)

_FETCH_S: Final = 600.0
"""How long the copy of an adapter may take to reach a node."""


class RayNodes:
    """`engines.drivers.several_nodes.FurtherNodes` by actors of this replica's placement group."""

    def __init__(self, source: SettingsSource, pool: PoolSettings, replica: str) -> None:
        """Place the actors; `StartFailed` where this process is in no placement group."""
        group = get_current_placement_group()
        if group is None:
            raise StartFailed(f"pool {pool.name!r} has nodes = {pool.nodes} and was deployed without a placement group")
        self._actors = [
            ray.remote(NodeActor)
            .options(
                **actor_options(pool),
                max_restarts=0,
                scheduling_strategy=PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=rank),
            )
            .remote(source, pool.name, replica, rank)
            for rank in range(1, pool.nodes)
        ]
        self._names = [f"number {rank}" for rank in range(1, pool.nodes)]
        self._watch = [asyncio.create_task(_until_lost(actor)) for actor in self._actors]
        self._loop = asyncio.get_running_loop()

    async def prepare(self) -> None:
        """Return once every node has found what the engine needs of it; `StartFailed` with what a node lacks."""
        try:
            self._names = list(await asyncio.gather(*(_answer(actor.prepare) for actor in self._actors)))
        except RayError as exc:
            raise StartFailed(_reason(exc)) from exc

    def engine_source(self, engine: EngineSettings) -> EngineSource:
        """Return where the replica gets its engines, each with a part on all nodes."""
        return EngineSource(
            build=lambda adapters: self._build(engine, adapters), live_adapters=live_adapters(engine.kind)
        )

    def _build(self, engine: EngineSettings, adapters: Mapping[str, Path]) -> SeveralNodesEngine:
        address = str(get_node_ip_address())
        meeting = MeetingPoint(nodes=1 + len(self._actors), address=address, port=free_port(address))
        first = build_engine(engine, adapters, place_on_node(meeting, 0, address, os.environ))
        return SeveralNodesEngine(first, self, meeting)

    @property
    def lost(self) -> list[str]:
        """The nodes whose actors are gone."""
        return [name for name, task in zip(self._names, self._watch, strict=True) if task.done()]

    async def start(self, meeting: MeetingPoint) -> None:
        """Return once the process on each node runs; `EngineStartFailed`."""
        try:
            await asyncio.gather(*(_answer(actor.start, meeting) for actor in self._actors))
        except RayError as exc:
            raise EngineStartFailed(f"on a further node of the engine: {_reason(exc)}") from exc

    async def wait_end(self) -> PartEnd:
        """Return how the first part that ends has ended, also where its node is lost."""
        waits = [
            asyncio.create_task(self._end_of(actor, name))
            for actor, name in zip(self._actors, self._names, strict=True)
        ]
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            return done.pop().result()
        finally:
            for wait in waits:
                wait.cancel()

    async def _end_of(self, actor: Any, name: str) -> PartEnd:
        try:
            return cast("PartEnd", await _answer(actor.wait_exit))
        except RayError as exc:
            return PartEnd(node=name, code=-SIGKILL, last_log_lines=f"the node is lost: {_reason(exc)}\n")

    async def stop(self) -> None:
        """End the processes on all nodes."""
        ends = await asyncio.gather(*(_answer(actor.stop) for actor in self._actors), return_exceptions=True)
        for error in ends:
            if isinstance(error, BaseException):
                log.warning("a part of the engine did not end as it should", extra={"error": str(error)})

    def fetch(self, artifact: str, folder: Path) -> None:
        """Return once every node has the artifact at *folder*, its bytes verified; `OSError`. Called in a thread.

        The engine names one path to all of its parts.
        """
        fetched = asyncio.run_coroutine_threadsafe(self._fetched(artifact), self._loop)
        try:
            found = fetched.result(_FETCH_S)
        except RayError as exc:
            raise OSError(f"on a further node of the engine: {_reason(exc)}") from exc
        finally:
            fetched.cancel()
        for name, path in zip(self._names, found, strict=True):
            if path != str(folder):
                raise OSError(
                    f"an adapter is at {folder} on the first node of the engine and at {path} on node {name}: "
                    "LORRY_HOME must be one path on all nodes of an engine"
                )

    async def _fetched(self, artifact: str) -> list[str]:
        return list(await asyncio.gather(*(_answer(actor.fetch, artifact) for actor in self._actors)))

    def keep(self, artifacts: frozenset[str]) -> None:
        """Have every node keep the copies of these artifacts, and of no others; returns before that is done."""
        for actor in self._actors:
            actor.keep.remote(artifacts)


class NodesJournal:
    """A replica's `Journal` by which all nodes of its engine have, and keep, the adapters that the first one has."""

    def __init__(self, journal: RegistryJournal, nodes: RayNodes) -> None:
        self._journal = journal
        self._nodes = nodes
        self._kept: frozenset[str] = frozenset()

    def wanted(self) -> Mapping[str, str]:
        """Return what should be loaded, most needed first."""
        return self._journal.wanted()

    def fetch(self, artifact: str) -> Path:
        """Return the artifact's folder, which is the same on all nodes, its bytes verified on each."""
        folder = self._journal.fetch(artifact)
        self._nodes.fetch(artifact, folder)
        return folder

    def report(self, report: ReplicaReport) -> None:
        """Store the report, and have all nodes keep the artifacts that this one keeps."""
        self._journal.report(report)
        if (kept := self._journal.held) != self._kept:
            self._nodes.keep(kept)
            self._kept = kept


async def _until_lost(actor: Any) -> None:
    """Return when the actor is gone."""
    with suppress(RayError):
        await _answer(actor.stay)


def _reason(error: RayError) -> str:
    """Return the message of what an actor raised, without the trace that Ray adds; of a lost actor, Ray's own."""
    return str(error.cause if isinstance(error, RayTaskError) else error)


async def _answer(method: Any, *arguments: object) -> Any:
    """Return what an actor's method answers; a coroutine, as Ray's references are awaited and are none."""
    return await method.remote(*arguments)
