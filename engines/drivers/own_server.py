"""The part of a driver that all kinds share: an engine is a server process of ours, usually with live adapters."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engines import keyed_server
from engines.answer_parsers import reads_calls
from engines.catalog import kind_of
from engines.drivers.command_line import interpreter_of, refuse_unhonoured
from engines.drivers.live_adapters import LiveAdapters
from engines.drivers.server_process import ServerProcess
from engines.drivers.server_state import offered_paths, server_load
from engines.load import EngineLoad
from engines.network.cluster_secret import cluster_secret
from engines.protocol import EngineTraits
from engines.settings import EngineSettings

LAUNCHER: Final = Path(keyed_server.__file__)


@dataclass(frozen=True, slots=True)
class Launch:
    """How the server of a kind is started from settings; both functions raise `SettingRefused`."""

    arguments: Callable[[EngineSettings, int], list[str]]
    """The command line behind the interpreter, for settings and a port."""
    environment: Callable[[EngineSettings], Mapping[str, str]]
    """Environment variables of the server's process, on top of ours."""
    key_variable: str
    """Environment variable with the key that the server wants."""
    key_flag: str = ""
    """Flag of the key, for a server that takes it on its command line alone: it is run by `engines.keyed_server`."""


class OwnServer:
    """The part of an `Engine` that its process answers for; see `engines.protocol` for what each method promises."""

    def __init__(self, settings: EngineSettings, launch: Launch) -> None:
        """Build the command line; `SettingRefused`, `EnvironmentMissing`, `UnknownEngine`."""
        row = kind_of(settings.kind)
        refuse_unhonoured(settings)
        self._settings = settings
        self._paths = row.paths
        self._reads_calls = reads_calls(settings)
        self._server = ServerProcess(settings, ready_path=row.ready_path, secret=cluster_secret(os.environ))
        launcher = [str(LAUNCHER), launch.key_flag] if launch.key_flag else []
        arguments = [*launcher, *launch.arguments(settings, self._server.port)]
        self._command = [sys.executable if row.environment is None else interpreter_of(settings), *arguments]
        self._environment = {**launch.environment(settings), launch.key_variable: self._server.key}

    @property
    def base_url(self) -> str:
        """The server's address for gateways, with its key; see `engines.address`."""
        return self._server.url

    async def stop(self, drain_timeout_s: float) -> None:
        """Send SIGTERM, which drains; SIGKILL to the group at the deadline."""
        await self._server.stop(drain_timeout_s)

    async def is_healthy(self) -> bool:
        """Whether the process lives and reports that it is ready."""
        return await self._server.is_ready()

    async def wait_exit(self) -> int:
        """Return the server's exit code when it ends."""
        return await self._server.wait_exit()

    def last_log_lines(self) -> str:
        """Return the end of the server's log."""
        return self._server.last_log_lines()

    async def load(self) -> EngineLoad:
        """Return how many requests the server reports."""
        return await server_load(self._settings.kind, self._server.http)

    async def memory_bytes(self) -> int | None:
        """Return the resident memory of the server's processes."""
        return await self._server.memory_bytes()

    def _traits(self, *, live_adapters: bool) -> EngineTraits:
        return EngineTraits(
            live_adapters=live_adapters,
            max_adapters=self._settings.max_adapters,
            paths=self._paths,
            reads_calls=self._reads_calls,
        )

    async def _start_server(self) -> None:
        """Start the process, then ask what the server can do with its model."""
        await self._server.start(self._command, self._environment)
        self._paths = await offered_paths(self._settings.kind, self._server.http)


class LiveServer(OwnServer):
    """An engine whose server loads and unloads adapters while it serves."""

    def __init__(self, settings: EngineSettings, adapters: Mapping[str, Path], launch: Launch) -> None:
        super().__init__(settings, launch)
        self._first_adapters = adapters
        self._adapters = LiveAdapters(settings, self._server.http)

    @property
    def traits(self) -> EngineTraits:
        """Adapters come and go live."""
        return self._traits(live_adapters=True)

    async def start(self) -> None:
        """Start the server, learn what its model can do, then load its first adapters."""
        await self._start_server()
        await self._adapters.load_all(self._first_adapters)

    async def loaded_adapters(self) -> frozenset[str]:
        """Return the served names of what is loaded, whoever caused it."""
        return await self._adapters.loaded()

    async def load_adapter(self, served_name: str, path: Path) -> None:
        """Load the adapter, or find it loaded."""
        await self._adapters.load(served_name, path)

    async def unload_adapter(self, served_name: str) -> None:
        """Unload the adapter as its server does: most wait for its requests."""
        await self._adapters.unload(served_name)
