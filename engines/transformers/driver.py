"""The transformers engine as the rest of Lorry sees it: `python -m engines.transformers` in a child process."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path
from typing import Final

from engines.errors import EngineStartFailed, EngineUnavailable
from engines.openai_server import OpenAiServer
from engines.process import ChildProcess
from engines.protocol import EngineTraits
from engines.settings import EngineSettings

POLL_S: Final = 0.1
SPIN_COUNT: Final = "10000"
"""How often a thread of a step looks for the others before it sleeps. Measured with two threads on two cores and 16
clients: 290 tokens/s, 220 when they sleep at once; with libgomp's own 300000, 53 when somebody else wants a core."""
PACKAGE_ROOT: Final = Path(__file__).parents[2]


class TransformersEngine:
    """An `Engine` that owns one server process; see `engines.protocol` for what each method promises."""

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self._port = settings.port or free_port(settings.host)
        self._server = OpenAiServer(
            self.base_url,
            health_timeout_s=settings.health_timeout_s,
            admin_timeout_s=settings.admin_timeout_s,
        )
        self._child: ChildProcess | None = None

    @property
    def traits(self) -> EngineTraits:
        """Adapters come and go live."""
        return EngineTraits(live_adapters=True, max_adapters=self._settings.max_adapters)

    @property
    def base_url(self) -> str:
        """`http://host:port` of the server."""
        return f"http://{self._settings.host}:{self._port}"

    async def start(self) -> None:
        """Start the child and wait until it is healthy."""
        settings = self._settings
        child = await ChildProcess.spawn(
            server_command(settings, self._port), server_environment(settings), settings.log_path
        )
        self._child = child
        healthy = False
        try:
            async with asyncio.timeout(settings.start_timeout_s):
                await self._wait_healthy(child)
            healthy = True
        except TimeoutError as exc:
            waited = f"not healthy after {settings.start_timeout_s} s"
            raise EngineStartFailed(f"{waited}; log:\n{child.last_log_lines()}") from exc
        finally:
            if not healthy:
                child.kill()

    async def stop(self, drain_timeout_s: float) -> None:
        """SIGTERM, which drains; SIGKILL of the group at the deadline."""
        if self._child is not None:
            await self._child.terminate(drain_timeout_s)
        await self._server.aclose()

    async def is_healthy(self) -> bool:
        """Whether the child lives and `/health` is 200."""
        return self._child is not None and self._child.is_alive and await self._server.is_healthy()

    async def wait_exit(self) -> int:
        """Return the child's exit code when it ends."""
        if self._child is None:
            raise EngineUnavailable("the engine was never started")
        return await self._child.wait()

    async def loaded_adapters(self) -> frozenset[str]:
        """Served names of what is loaded."""
        return frozenset(await self._server.adapters())

    async def load_adapter(self, served_name: str, path: Path) -> None:
        """Load it, or find it loaded."""
        await self._server.load_adapter(served_name, path)

    async def unload_adapter(self, served_name: str) -> None:
        """Unload it after its requests."""
        await self._server.unload_adapter(served_name)

    async def _wait_healthy(self, child: ChildProcess) -> None:
        while not await self._server.is_healthy():
            if not child.is_alive:
                raise EngineStartFailed(f"exited with {await child.wait()}; log:\n{child.last_log_lines()}")
            await asyncio.sleep(POLL_S)


def server_command(settings: EngineSettings, port: int) -> list[str]:
    """The command line of the server."""
    options = {
        "--base-path": settings.base_path,
        "--base-name": settings.base_name,
        "--host": settings.host,
        "--port": port,
        "--threads": settings.threads,
        "--max-adapters": settings.max_adapters,
        "--max-rank": settings.max_rank,
        "--max-batch": settings.max_batch,
        "--max-context": settings.max_context,
        "--max-queue": settings.max_queue,
        "--max-step-tokens": settings.max_step_tokens,
    }
    flags = [str(part) for option in options.items() for part in option]
    return [sys.executable, "-m", "engines.transformers", *flags]


def server_environment(settings: EngineSettings) -> dict[str, str]:
    """What the server's process has on top of our environment: our packages on its path, its number of threads."""
    search_path = filter(None, (str(PACKAGE_ROOT), os.environ.get("PYTHONPATH")))
    return {
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "GOMP_SPINCOUNT": SPIN_COUNT,
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": os.pathsep.join(search_path),
    }


def free_port(host: str) -> int:
    """A port that nobody listens on now."""
    with socket.create_server((host, 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
