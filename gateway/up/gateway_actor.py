"""The actor of a gateway process. Its module imports what that process needs, no engine and no controller."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Mapping
from typing import Final

import uvicorn

from engines.network.cluster_secret import cluster_secret
from gateway.settings import SettingsSource
from gateway.up.listening import addresses_of, check_keys, listen
from gateway.up.logs import log_to
from registry.database import open_registry

_DATE_EVERY_S: Final = 1.0


class GatewayReplica:
    """Serves the gateway's HTTP on the shared port."""

    async def __init__(self, source: SettingsSource, secrets: Mapping[str, str]) -> None:  # type: ignore[misc]  # Serve awaits it
        """Return once the port answers; *secrets* are variables that only this process' environment has."""
        os.environ.update(secrets)
        settings = source.load()
        # The host imports this module too, and serves nothing: an application takes 16 MB.
        from gateway.app import build_gateway
        from gateway.up.http_server import server_config

        log_to(settings.home, "gateway")
        knobs = settings.gateway
        registry = open_registry(settings.registry)
        check_keys(knobs.host, registry)
        secret = cluster_secret(os.environ)
        self._gateway = build_gateway(knobs, registry, settings.home, settings.traces, secret)
        self._server = QuietServer(server_config(self._gateway))
        self._listeners = [listen(address, knobs.port) for address in addresses_of(knobs.host)]
        self._serving = asyncio.create_task(self._server.serve(sockets=self._listeners))
        while not self._server.started:
            if self._serving.done():
                # A server that ended before it started raises why.
                self._serving.result()
            await asyncio.sleep(0.01)

    def check_health(self) -> None:
        """Ray replaces this replica when the server has ended."""
        if self._serving.done():
            raise RuntimeError("the HTTP server has ended")

    async def __del__(self) -> None:
        """Drain: no new connection, what is in flight finishes, then the port is closed."""
        self._server.leave()
        await self._serving
        self._gateway.registry.close()


class QuietServer(uvicorn.Server):
    """Uvicorn inside an actor: signals belong to Ray, and an idle server wakes up once a second, not ten times."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._leaving = asyncio.Event()

    def leave(self) -> None:
        """Drain and end."""
        self.should_exit = True
        self._leaving.set()

    async def main_loop(self) -> None:
        """Renew the date that answers carry every second, until it is time to leave."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._leaving.wait(), _DATE_EVERY_S)

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]
        yield
