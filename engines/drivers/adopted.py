"""An inference server that somebody else started: reached, loaded and proven like ours, never started or stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engines.catalog import kind_of
from engines.drivers.live_adapters import LiveAdapters
from engines.drivers.offered_paths import paths_of
from engines.drivers.openai_server import OpenAiServer
from engines.errors import AdapterLoadFailed, AdapterNotLoaded, AdaptersFixed, EngineError, EngineStartFailed
from engines.load import EngineLoad, LoadMetrics, load_of
from engines.protocol import EngineTraits
from engines.settings import EngineSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Manners:
    """How a kind of server is spoken to."""

    load: LoadMetrics
    ready_path: str = "/health"
    admin_prefix: str = "/v1"
    """What comes before `/load_lora_adapter`, for kinds with live adapters."""


MANNERS: Final[Mapping[str, Manners]] = {
    "transformers": Manners(load=LoadMetrics(running="engine_requests_running", waiting="engine_requests_waiting")),
    "vllm": Manners(load=LoadMetrics(running="vllm:num_requests_running", waiting="vllm:num_requests_waiting")),
    "sglang": Manners(
        load=LoadMetrics(running="sglang:num_running_reqs", waiting="sglang:num_queue_reqs"),
        ready_path="/ready",
        admin_prefix="",
    ),
    "lmdeploy": Manners(
        load=LoadMetrics(running="lmdeploy:num_requests_running", waiting="lmdeploy:num_requests_waiting")
    ),
}


class AdoptedEngine:
    """An `Engine` without a process of its own. Adapter folders must be at the same path on the server's machine.

    A kind without live adapters has what it was launched with: such a name is found there, another one is refused. So
    to its replica every adopted engine is one with live adapters.
    """

    def __init__(self, url: str, settings: EngineSettings) -> None:
        """*settings* say kind, base model and how many adapters; `UnknownEngine` for a kind that there is not."""
        self.base_url = url.rstrip("/")
        self._settings = settings
        self._live = kind_of(settings.kind).live_adapters
        self._paths = kind_of(settings.kind).paths
        self._manners = MANNERS[settings.kind]
        self._http = OpenAiServer(self.base_url, timeout_s=settings.admin_timeout_s)
        prefix = self._manners.admin_prefix
        self._adapters = LiveAdapters(
            settings,
            self._http,
            load_path=f"{prefix}/load_lora_adapter",
            unload_path=f"{prefix}/unload_lora_adapter",
        )
        self._loaded_by_us: set[str] = set()

    @property
    def traits(self) -> EngineTraits:
        """Adapters come and go, or are found."""
        return EngineTraits(live_adapters=True, max_adapters=self._settings.max_adapters, paths=self._paths)

    async def start(self) -> None:
        """Find it ready with its base model; `EngineStartFailed` with what it has instead."""
        settings = self._settings
        if not await self.is_healthy():
            path = self._manners.ready_path
            raise EngineStartFailed(f"no {settings.kind} server answers GET {self.base_url}{path} with 200")
        names = await self._names()
        if settings.base_name not in names:
            raise EngineStartFailed(
                f"the server at {self.base_url} serves {', '.join(sorted(names)) or 'nothing'}, not "
                f"{settings.base_name}: start it with that as the model's served name"
            )
        self._paths = await paths_of(settings.kind, self._http)

    async def stop(self, drain_timeout_s: float) -> None:
        """It has none of the adapters that we loaded; the server runs on."""
        try:
            async with asyncio.timeout(max(drain_timeout_s, self._settings.health_timeout_s)):
                for served_name in sorted(self._loaded_by_us):
                    await self._forget(served_name)
        except (TimeoutError, EngineError):
            pass  # it is gone, or others look after it now: nothing of it is ours
        await self._http.aclose()

    async def is_healthy(self) -> bool:
        """Whether it says that it is ready."""
        return await self._http.answers_ok(self._manners.ready_path, self._settings.health_timeout_s)

    async def wait_exit(self) -> int:
        """Never return: its process is not ours to see; health tells when it is gone."""
        ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        return await ended

    async def loaded_adapters(self) -> frozenset[str]:
        """Served names of what it has, whoever caused it."""
        return await self._names() - {self._settings.base_name}

    async def load_adapter(self, served_name: str, path: Path) -> None:
        """Load it, or find it loaded; `AdaptersFixed` when it was launched without it and cannot load."""
        if self._live:
            try:
                await self._adapters.load(served_name, path)
            except AdapterLoadFailed as exc:
                raise AdapterLoadFailed(f"{exc} (the server must see the folder at this very path)") from exc
            self._loaded_by_us.add(served_name)
        elif served_name not in await self._names():
            raise AdaptersFixed(
                f"{served_name}: the {self._settings.kind} server at {self.base_url} has only the adapters that it was "
                f"launched with; launch it with {served_name}={path}"
            )

    async def unload_adapter(self, served_name: str) -> None:
        """Unload it if it can be unloaded; what a server was launched with it keeps."""
        if not self._live:
            raise AdapterNotLoaded(f"{served_name} is not ours to unload")
        await self._forget(served_name)

    async def load(self) -> EngineLoad:
        """How busy its metrics say it is."""
        return load_of(await self._http.metrics(), self._manners.load)

    def last_log_lines(self) -> str:
        """Nothing: its log is somebody else's."""
        return ""

    async def _forget(self, served_name: str) -> None:
        self._loaded_by_us.discard(served_name)
        await self._adapters.unload(served_name)

    async def _names(self) -> frozenset[str]:
        return frozenset(entry["id"] for entry in await self._http.models())
