"""The server process of an engine: started until it is ready, watched, stopped. Drivers are built around one."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping, Sequence
from typing import Final

from engines.address import key_of, keyed_address
from engines.drivers.openai_server import OpenAiServer
from engines.errors import EngineStartFailed, EngineUnreachable
from engines.network.cluster_secret import NO_SECRET, ClusterSecret
from engines.network.hosts import family_of, local_host
from engines.network.reachability import reached_host
from engines.process import ChildProcess
from engines.settings import EngineSettings

POLL_S: Final = 0.1


class ServerProcess:
    """A child process that serves HTTP; `http` is our client for it, `url` its address for others. Started once."""

    def __init__(
        self, settings: EngineSettings, *, ready_path: str = "/health", secret: ClusterSecret = NO_SECRET
    ) -> None:
        """Make address and key; `SettingRefused` for a server that others can reach and that no *secret* guards."""
        reached = reached_host(settings)
        secret.check_covers(settings.host, reached)
        self._settings = settings
        self._ready_path = ready_path
        self.port = settings.port or free_port(settings.host)
        self.url = secret.new_address(reached, self.port)
        self.key = key_of(self.url)
        # Asked where it listens: its health must not depend on the way that the requests of gateways take.
        bound = keyed_address(local_host(settings.host), self.port, self.key)
        self.http = OpenAiServer(bound, timeout_s=settings.admin_timeout_s)
        self._child: ChildProcess | None = None

    async def start(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Return once it is ready; `EngineStartFailed` with the end of its log when it ends first or is late."""
        settings = self._settings
        child = await ChildProcess.spawn(command, environment, settings.log_path)
        # Kept before the server is ready: `stop` and `last_log_lines` must reach a start that fails.
        self._child = child
        ready = False
        try:
            async with asyncio.timeout(settings.start_timeout_s):
                await self._wait_ready(child)
            ready = True
        except TimeoutError as exc:
            waited = f"not healthy after {settings.start_timeout_s} s"
            raise EngineStartFailed(f"{waited}; log:\n{self.last_log_lines()}") from exc
        finally:
            if not ready:  # a cancelled start ends here too
                child.kill()

    async def stop(self, drain_timeout_s: float) -> None:
        """Send SIGTERM, which drains; SIGKILL to the group at the deadline."""
        if self._child is not None:
            await self._child.terminate(drain_timeout_s)
        await self.http.aclose()

    async def is_ready(self) -> bool:
        """Whether the child lives and reports that it is ready."""
        return self._child is not None and self._child.is_alive and await self._answers_ready()

    async def wait_exit(self) -> int:
        """Return the child's exit code when it ends."""
        if self._child is None:
            raise EngineUnreachable("the engine was never started")
        return await self._child.wait()

    async def memory_bytes(self) -> int | None:
        """Return the resident memory of the server's processes, None before its start."""
        return None if self._child is None else await asyncio.to_thread(self._child.memory_bytes)

    def last_log_lines(self) -> str:
        """Return the end of the child's log, without the key; empty if it was never started."""
        lines = "" if self._child is None else self._child.last_log_lines()
        return lines.replace(self.key, "***")

    async def _answers_ready(self) -> bool:
        return await self.http.answers_ok(self._ready_path, self._settings.health_timeout_s)

    async def _wait_ready(self, child: ChildProcess) -> None:
        # Another process may have got the port, whose answer must not pass for that of the child.
        while not (await self._answers_ready() and await asyncio.to_thread(child.listens_on, self.port)):
            if not child.is_alive:
                raise EngineStartFailed(f"exited with {await child.wait()}; log:\n{self.last_log_lines()}")
            await asyncio.sleep(POLL_S)


def free_port(host: str) -> int:
    """Return a port that nobody listens on now."""
    # Another process may bind the port before the server does; that start fails, and the next engine picks another.
    with socket.create_server((host, 0), family=family_of(host)) as listener:
        port: int = listener.getsockname()[1]
        return port
