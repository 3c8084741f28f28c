"""What drivers have in common: an engine is a server process of ours, and of most the adapters come and go live."""

from __future__ import annotations

from pathlib import Path

from engines.catalog import kind_of
from engines.drivers.live_adapters import LiveAdapters
from engines.drivers.server_process import ServerProcess
from engines.protocol import EngineTraits
from engines.settings import EngineSettings


class OwnServer:
    """The part of an `Engine` that its process answers for; see `engines.protocol` for what each method promises."""

    def __init__(self, settings: EngineSettings, server: ServerProcess) -> None:
        self._settings = settings
        self._paths = kind_of(settings.kind).paths
        self._server = server

    @property
    def base_url(self) -> str:
        """`http://host:port` of the server."""
        return self._server.url

    async def stop(self, drain_timeout_s: float) -> None:
        """SIGTERM, which drains; SIGKILL of the group at the deadline."""
        await self._server.stop(drain_timeout_s)

    async def is_healthy(self) -> bool:
        """Whether the process lives and says that it is ready."""
        return await self._server.is_ready()

    async def wait_exit(self) -> int:
        """Return the server's exit code when it ends."""
        return await self._server.wait_exit()

    def last_log_lines(self) -> str:
        """The end of the server's log."""
        return self._server.last_log_lines()


class LiveServer(OwnServer):
    """One that loads and unloads adapters while it serves."""

    def __init__(self, settings: EngineSettings, server: ServerProcess, load_path: str, unload_path: str) -> None:
        super().__init__(settings, server)
        self._adapters = LiveAdapters(settings, server.http, load_path=load_path, unload_path=unload_path)

    @property
    def traits(self) -> EngineTraits:
        """Adapters come and go live."""
        return EngineTraits(live_adapters=True, max_adapters=self._settings.max_adapters, paths=self._paths)

    async def loaded_adapters(self) -> frozenset[str]:
        """Served names of what is loaded, whoever caused it."""
        return await self._adapters.loaded()

    async def load_adapter(self, served_name: str, path: Path) -> None:
        """Load it, or find it loaded."""
        await self._adapters.load(served_name, path)

    async def unload_adapter(self, served_name: str) -> None:
        """Unload it, as its server does: most wait for its requests."""
        await self._adapters.unload(served_name)
