"""An engine whose devices are on several nodes: its parts start together, and the end of one is the end of all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol, TypeVar

from engines.drivers.further_node import PartEnd
from engines.errors import EngineStartFailed
from engines.load import EngineLoad
from engines.network.node_place import MeetingPoint
from engines.protocol import Engine, EngineTraits

Result = TypeVar("Result")


class FurtherNodes(Protocol):
    """The nodes of an engine beyond its first."""

    async def start(self, meeting: MeetingPoint) -> None:
        """Return once the process on each runs; `EngineStartFailed`."""
        ...

    async def wait_end(self) -> PartEnd:
        """Return how the first part that ends has ended, also where its node is lost; after `start`."""
        ...

    async def stop(self) -> None:
        """End the processes on all of them; raises nothing."""
        ...


class SeveralNodesEngine:
    """An `Engine` with a server on the first node and parts on others; see `engines.protocol` for each promise."""

    def __init__(self, first: Engine, further: FurtherNodes, meeting: MeetingPoint) -> None:
        """The engine of which *first* is the part on this node, and *further* are the others."""
        self._first = first
        self._further = further
        self._meeting = meeting
        self._end: PartEnd | None = None

    @property
    def traits(self) -> EngineTraits:
        """Return those of the first node's server."""
        return self._first.traits

    @property
    def base_url(self) -> str:
        """Return the address of the first node's server."""
        return self._first.base_url

    async def start(self) -> None:
        """Start all parts, and return once the first node's server answers; `stop` ends what a failed start leaves."""
        await self._further.start(self._meeting)
        await self._unless_a_part_ends(self._first.start)
        if self._end is not None:
            raise EngineStartFailed(self.last_log_lines())

    async def _unless_a_part_ends(self, act: Callable[[], Awaitable[Result]]) -> Result | None:
        """Return the result of *act*, or None after it was cancelled because a part has ended."""
        acting, ended = asyncio.ensure_future(act()), asyncio.create_task(self._further.wait_end())
        try:
            await asyncio.wait({acting, ended}, return_when=asyncio.FIRST_COMPLETED)
            if acting.done():
                return acting.result()
            self._end = ended.result()
            return None
        finally:
            for task in (acting, ended):
                task.cancel()
            await asyncio.gather(acting, ended, return_exceptions=True)

    async def stop(self, drain_timeout_s: float) -> None:
        """Drain and end the first node's server, whose requests need the other parts, then those."""
        try:
            await self._first.stop(drain_timeout_s)
        finally:
            await self._further.stop()

    async def is_healthy(self) -> bool:
        """Whether the first node's server is ready, and no part is known to have ended."""
        return self._end is None and await self._first.is_healthy()

    async def wait_exit(self) -> int:
        """Return the exit code of the part that ends first."""
        code = await self._unless_a_part_ends(self._first.wait_exit)
        if code is not None:
            return code
        assert self._end is not None  # noqa: S101 - it is why there is no code
        return self._end.code

    def last_log_lines(self) -> str:
        """Return the end of the log of the part that has ended on another node, else of the first node's server."""
        if self._end is None:
            return self._first.last_log_lines()
        return f"the part on node {self._end.node} ended with {self._end.code}; its log:\n{self._end.last_log_lines}"

    async def loaded_adapters(self) -> frozenset[str]:
        """Return the adapters of the first node's server, which has the others load and unload them with it."""
        return await self._first.loaded_adapters()

    async def load_adapter(self, served_name: str, path: Path) -> None:
        """Load the adapter on all nodes, each of which has it at *path*."""
        await self._first.load_adapter(served_name, path)

    async def unload_adapter(self, served_name: str) -> None:
        """Unload the adapter on all nodes."""
        await self._first.unload_adapter(served_name)

    async def memory_bytes(self) -> int | None:
        """Return the resident memory on the first node."""
        return await self._first.memory_bytes()

    async def load(self) -> EngineLoad:
        """Return the load of the first node's server."""
        return await self._first.load()
