"""Gateways before engines that do what a script says."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Final

from gateway.settings import GatewaySettings, TraceSettings
from registry.database import Registry
from tests.gateway.replica_rows import replica_row
from tests.gateway.served import ServedGateway
from tests.stub_engine import Script, StubEngine

SETTINGS: Final = GatewaySettings(replica_wait_s=20.0, route_refresh_s=0.05, low_disk_bytes=1)
"""The disk of the machine that runs the tests is never low."""


class ScriptedGateways:
    """Starts gateways on one registry, and ends them and then their engines."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._running = ExitStack()
        self.engines: list[StubEngine] = []

    def serve(
        self,
        *scripts: Sequence[Script],
        settings: GatewaySettings = SETTINGS,
        traces: TraceSettings | None = None,
        **fields: Any,
    ) -> ServedGateway:
        """Return a gateway before one stub engine for each list of scripts, whose rows have these *fields*."""
        for number, script in enumerate(scripts):
            self.engines.append(StubEngine(*script))
            self._running.callback(self.engines[-1].close)
            self._registry.replicas.report(replica_row(f"r{number}", url=self.engines[-1].url, **fields))
        return self._running.enter_context(ServedGateway(settings, self._registry, traces=traces))

    def close(self) -> None:
        """End all that runs, the latest first."""
        self._running.close()
