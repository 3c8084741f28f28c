"""A gateway that listens on a real port, for one test."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import httpx2
import uvicorn

from engines.network.cluster_secret import NO_SECRET, ClusterSecret
from gateway.app import build_gateway
from gateway.settings import GatewaySettings, TraceSettings
from gateway.up.http_server import server_config
from registry.database import Registry
from tests.waiting import wait_for

STOP_POLL_S = 0.01
"""How often the server looks whether it is to stop; uvicorn's own 0.1 s would be waited for by hundreds of tests."""


class PromptServer(uvicorn.Server):
    """A uvicorn server that notices at once that it is to stop, and does not pause where nothing is to be drained."""

    async def main_loop(self) -> None:
        """Return when the server is to stop."""
        while not await self.on_tick(0):  # noqa: ASYNC110  uvicorn sets a flag, no event
            await asyncio.sleep(STOP_POLL_S)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End as uvicorn does; without connections at once, where uvicorn's own pauses for 0.1 s first."""
        await asyncio.sleep(0)  # the test has closed its connections: the loop reads their ends
        if self.server_state.connections or self.server_state.tasks:
            await super().shutdown(sockets)
            return
        for server in self.servers:
            server.close()
            await server.wait_closed()
        await self.lifespan.shutdown()


class ServedGateway:
    """Listens on a free port until it is closed; `client` is one of its clients."""

    def __init__(
        self,
        settings: GatewaySettings,
        registry: Registry,
        listener: socket.socket | None = None,
        *,
        home: Path | None = None,
        traces: TraceSettings | None = None,
        secret: ClusterSecret = NO_SECRET,
    ) -> None:
        """*listener* is a socket to share a port by."""
        self.gateway = build_gateway(settings, registry, home, traces, secret)
        config = server_config(self.gateway)
        self._server = PromptServer(config)
        self._listener = listener or _free_port()
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._listener]})
        self._thread.start()
        self.clients = ExitStack()
        """Further clients, which are closed before it ends."""
        wait_for(lambda: self._server.started)
        self.port = int(self._listener.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = self._new_client()

    def __enter__(self) -> ServedGateway:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def requests_beside(self) -> int:
        """Number of requests outside the hot path that are under way."""
        return len(self._server.server_state.tasks)

    def connect(self) -> socket.socket:
        """A connection to it."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def forget_connections(self) -> None:
        """Close those that `client` keeps; it is another one now."""
        self.client.close()
        self.client = self._new_client()

    def _new_client(self) -> httpx2.Client:
        return httpx2.Client(base_url=self.url, timeout=30, trust_env=False, verify=False)

    def begin_drain(self) -> None:
        """Ask it to end; it answers what is under way."""
        self._server.should_exit = True

    def close(self) -> None:
        """End it, and wait until it has ended."""
        self.client.close()
        self.clients.close()
        self.begin_drain()
        self._thread.join()


def _free_port() -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    return listener
