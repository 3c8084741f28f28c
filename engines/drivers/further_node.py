"""The part of an engine on a node beyond its first: one process, which starts and ends with the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, cast

from engines.catalog import code_of, kind_of
from engines.drivers.command_line import interpreter_of
from engines.errors import EngineUnreachable, SettingRefused
from engines.network.node_place import NodePlace
from engines.process import ChildProcess
from engines.settings import EngineSettings

ENDS_S: Final = 10.0
"""How long a process may take to end by SIGTERM: its requests have ended before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartEnd:
    """How the part of an engine on a further node has ended."""

    node: str
    """Address of the node."""
    code: int
    """Exit code of its process, negative for a signal."""
    last_log_lines: str


class FurtherNode:
    """This node's part of engines with *settings*, of which one runs at a time."""

    def __init__(self, settings: EngineSettings) -> None:
        """Find the kind's command; `SettingRefused` where all its devices must be on one node, `EnvironmentMissing`."""
        row = kind_of(settings.kind).several_nodes
        if row is None:
            raise SettingRefused(f"the {settings.kind} engine cannot have its devices on several nodes")
        self._settings = settings
        self._interpreter = interpreter_of(settings)
        self._arguments = cast("Callable[[EngineSettings, NodePlace], list[str]]", code_of(row.arguments))
        self._environment = cast("Callable[[EngineSettings, NodePlace], Mapping[str, str]]", code_of(row.environment))
        self._child: ChildProcess | None = None
        self._address = ""

    async def start(self, place: NodePlace) -> None:
        """Start the process at *place*, after the end of one that still runs; it is ready when the first node's is."""
        await self.stop()
        command = [self._interpreter, *self._arguments(self._settings, place)]
        environment = self._environment(self._settings, place)
        self._child = await ChildProcess.spawn(command, environment, self._settings.log_path)
        self._address = place.address

    async def wait_exit(self) -> PartEnd:
        """Return how the process has ended once it has; `EngineUnreachable` if it was never started."""
        child = self._child
        if child is None:
            raise EngineUnreachable("this node's part of the engine was never started")
        code = await child.wait()
        return PartEnd(node=self._address, code=code, last_log_lines=child.last_log_lines())

    async def stop(self) -> None:
        """End the process and all that it started."""
        if self._child is not None:
            await self._child.terminate(ENDS_S)
