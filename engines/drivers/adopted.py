"""An inference server that somebody else started: reached, loaded and proven like ours, never started or stopped."""

from __future__ import annotations

import asyncio
from pathlib import Path

from engines.address import shown_address
from engines.catalog import kind_of
from engines.drivers.live_adapters import LiveAdapters
from engines.drivers.openai_server import OpenAiServer
from engines.drivers.server_state import does_read_calls, offered_paths, server_load
from engines.errors import AdapterLoadFailed, AdapterNotLoaded, AdaptersFixed, EngineError, EngineStartFailed
from engines.load import EngineLoad
from engines.protocol import EngineTraits
from engines.settings import EngineSettings


class AdoptedEngine:
    """An `Engine` without a process of its own. Adapter folders must be at the same path on the server's machine.

    A server of a kind without live adapters has what it was launched with: such a name is found there, another one is
    refused. To its replica every adopted engine is therefore one with live adapters.
    """

    def __init__(self, url: str, settings: EngineSettings) -> None:
        """Take kind, base model and number of adapters from *settings*; `UnknownEngine`."""
        self.base_url = url.rstrip("/")
        self._shown = shown_address(self.base_url)
        self._settings = settings
        self._row = kind_of(settings.kind)
        self._paths = self._row.paths
        self._reads_calls = True
        self._http = OpenAiServer(self.base_url, timeout_s=settings.admin_timeout_s)
        self._adapters = LiveAdapters(settings, self._http)
        self._loaded_by_us: set[str] = set()

    @property
    def traits(self) -> EngineTraits:
        """Adapters come and go, or are found."""
        return EngineTraits(
            live_adapters=True,
            max_adapters=self._settings.max_adapters,
            paths=self._paths,
            reads_calls=self._reads_calls,
        )

    async def start(self) -> None:
        """Find the server ready with its base model; `EngineStartFailed` with what it serves instead."""
        settings = self._settings
        if not await self.is_healthy():
            path = self._row.ready_path
            raise EngineStartFailed(f"no {settings.kind} server answers GET {self._shown}{path} with 200")
        names = await self._names()
        if settings.base_name not in names:
            raise EngineStartFailed(
                f"the server at {self._shown} serves {', '.join(sorted(names)) or 'nothing'}, not "
                f"{settings.base_name}: start it with that as the model's served name"
            )
        self._paths = await offered_paths(settings.kind, self._http)
        self._reads_calls = await does_read_calls(settings.kind, self._http)

    async def stop(self, drain_timeout_s: float) -> None:
        """Unload the adapters that we loaded; the server runs on."""
        try:
            # A replica that failed gives 0 s to drain; unloading still needs the time of a few requests.
            async with asyncio.timeout(max(drain_timeout_s, self._settings.health_timeout_s)):
                for served_name in sorted(self._loaded_by_us):
                    await self._forget(served_name)
        except (TimeoutError, EngineError):
            pass  # the server is gone, or another controller looks after it now: nothing there is ours
        await self._http.aclose()

    async def is_healthy(self) -> bool:
        """Whether the server reports that it is ready."""
        return await self._http.answers_ok(self._row.ready_path, self._settings.health_timeout_s)

    async def wait_exit(self) -> int:
        """Never return: the process is not ours to watch; health checks show when it is gone."""
        ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        return await ended

    async def loaded_adapters(self) -> frozenset[str]:
        """Return the served names of what the server has, whoever caused it."""
        return await self._names() - {self._settings.base_name}

    async def load_adapter(self, served_name: str, path: Path) -> None:
        """Load the adapter, or find it loaded; `AdaptersFixed` when the server has it not and cannot load."""
        if self._row.live_adapters:
            try:
                await self._adapters.load(served_name, path)
            except AdapterLoadFailed as exc:
                raise AdapterLoadFailed(f"{exc} (the server must see the folder at this very path)") from exc
            self._loaded_by_us.add(served_name)
        elif served_name not in await self._names():
            raise AdaptersFixed(
                f"{served_name}: the {self._settings.kind} server at {self._shown} has only the adapters that it was "
                f"launched with; launch it with {served_name}={path}"
            )

    async def unload_adapter(self, served_name: str) -> None:
        """Unload the adapter where the kind can; a server keeps what it was launched with."""
        if not self._row.live_adapters:
            raise AdapterNotLoaded(f"{served_name} is not ours to unload")
        await self._forget(served_name)

    async def load(self) -> EngineLoad:
        """Return how many requests the server reports."""
        return await server_load(self._settings.kind, self._http)

    async def memory_bytes(self) -> int | None:
        """Return None: the server's processes are somebody else's."""
        return None

    def last_log_lines(self) -> str:
        """Return nothing: the server's log is somebody else's."""
        return ""

    async def _forget(self, served_name: str) -> None:
        self._loaded_by_us.discard(served_name)
        await self._adapters.unload(served_name)

    async def _names(self) -> frozenset[str]:
        return frozenset(entry["id"] for entry in await self._http.models())
