"""One replica: an engine that is kept running, has the adapters it should have, and says so."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final, Protocol

from engines.errors import EngineError
from engines.protocol import Engine

log = logging.getLogger(__name__)

_MAX_BACKOFF_S: Final = 30.0
_RETRY_LOAD_S: Final = 10.0
_UNROUTE_TICKS: Final = 8
_FAILED_PROBES: Final = 5


class Phase(StrEnum):
    """What the replica says of itself."""

    STARTING = "starting"
    READY = "ready"
    UNHEALTHY = "unhealthy"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaReport:
    """A replica's description of itself; `adapters` maps served names to an error, empty where the slot is ready."""

    url: str
    phase: Phase
    adapters: Mapping[str, str]
    loading: frozenset[str]
    message: str


class Journal(Protocol):
    """Where a replica learns what it should have, and writes what it has. All calls block; all raise OSError."""

    def wanted(self) -> Mapping[str, str]:
        """Served name -> artifact of every adapter that should be loaded here."""
        ...

    def fetch(self, artifact: str) -> Path:
        """The artifact's folder, its bytes verified."""
        ...

    def report(self, report: ReplicaReport) -> None:
        """The report is on record, with a fresh heartbeat."""
        ...


@dataclass(slots=True)
class _Slots:
    """Which adapters are loaded, failed, or on their way out."""

    ready: set[str] = field(default_factory=set)
    failed: dict[str, tuple[str, float]] = field(default_factory=dict)
    loading: set[str] = field(default_factory=set)
    leaving: dict[str, int] = field(default_factory=dict)

    def clear(self) -> None:
        self.ready.clear()
        self.failed.clear()
        self.loading.clear()
        self.leaving.clear()


class EngineReplica:
    """Keeps one engine running: restarts it with back-off, loads and unloads adapters, reports every tick."""

    def __init__(self, engine: Engine, journal: Journal, tick_s: float) -> None:
        self._engine = engine
        self._journal = journal
        self._tick_s = tick_s
        self._slots = _Slots()
        self._phase = Phase.STARTING
        self._message = ""
        self._failed_probes = 0

    async def run(self) -> None:
        """Keep the engine running until cancelled."""
        backoff_s = 1.0
        while True:
            began = time.monotonic()
            try:
                await self._report()
                await self._starting()
                await self._serve()
            except EngineError as exc:
                log.warning("engine failed", extra={"error": str(exc)})
                self._phase, self._message = Phase.UNHEALTHY, str(exc)
            self._slots.clear()
            await self._report()
            await self._engine.stop(drain_timeout_s=0.0)
            backoff_s = 1.0 if time.monotonic() - began > 60.0 else min(2 * backoff_s, _MAX_BACKOFF_S)
            await asyncio.sleep(backoff_s / 2)

    async def _starting(self) -> None:
        """Start the engine, with a heartbeat while it does."""
        starting = asyncio.create_task(self._engine.start())
        try:
            while not starting.done():
                await asyncio.wait({starting}, timeout=self._tick_s)
                await self._report()
            await starting
        finally:
            starting.cancel()
        self._failed_probes = 0

    async def drain(self, unroute_s: float, drain_timeout_s: float) -> None:
        """Say that no new request should come, let gateways see it, then stop the engine when its requests are done."""
        self._phase = Phase.DRAINING
        await self._report()
        await asyncio.sleep(unroute_s)
        await self._engine.stop(drain_timeout_s=drain_timeout_s)

    async def _serve(self) -> None:
        """Tick until the engine dies or stops answering."""
        exited = asyncio.create_task(self._engine.wait_exit())
        try:
            while not exited.done():
                await self._tick()
                await asyncio.wait({exited}, timeout=self._tick_s)
            raise EngineError(f"engine exited with code {exited.result()}")
        finally:
            exited.cancel()

    async def _tick(self) -> None:
        if not await self._engine.is_healthy():
            self._failed_probes += 1
            if self._failed_probes >= _FAILED_PROBES:
                raise EngineError(f"engine did not answer {_FAILED_PROBES} health probes in a row")
            return
        self._failed_probes = 0
        await self._reconcile()
        if self._phase is not Phase.DRAINING:
            self._phase, self._message = Phase.READY, ""
        await self._report()

    async def _reconcile(self) -> None:
        try:
            wanted = await asyncio.to_thread(self._journal.wanted)
        except OSError as exc:
            log.warning("the journal does not answer, adapters stay", extra={"error": str(exc)})
            return
        now = time.monotonic()
        for served_name, artifact in wanted.items():
            self._slots.leaving.pop(served_name, None)
            failed_at = self._slots.failed.get(served_name, ("", -_RETRY_LOAD_S))[1]
            if served_name not in self._slots.ready and now - failed_at >= _RETRY_LOAD_S:
                await self._load(served_name, artifact)
        self._slots.failed = {name: why for name, why in self._slots.failed.items() if name in wanted}
        for served_name in sorted(self._slots.ready - set(wanted)):
            await self._leave(served_name)

    async def _load(self, served_name: str, artifact: str) -> None:
        self._slots.loading.add(served_name)
        await self._report()
        try:
            path = await asyncio.to_thread(self._journal.fetch, artifact)
            await self._engine.load_adapter(served_name, path)
        except (EngineError, OSError) as exc:
            log.warning("adapter not loaded", extra={"served_name": served_name, "error": str(exc)})
            self._slots.failed[served_name] = (str(exc), time.monotonic())
            return
        finally:
            self._slots.loading.discard(served_name)
        self._slots.failed.pop(served_name, None)
        self._slots.ready.add(served_name)

    async def _leave(self, served_name: str) -> None:
        """First out of the report, so that gateways route around it; out of the engine some ticks later."""
        ticks = self._slots.leaving.get(served_name, 0) + 1
        self._slots.leaving[served_name] = ticks
        if ticks > _UNROUTE_TICKS:
            await self._engine.unload_adapter(served_name)
            self._slots.ready.discard(served_name)
            del self._slots.leaving[served_name]

    async def _report(self) -> None:
        ready = self._slots.ready - set(self._slots.leaving)
        adapters = dict.fromkeys(ready, "") | {name: why for name, (why, _) in self._slots.failed.items()}
        report = ReplicaReport(
            url=self._engine.base_url,
            phase=self._phase,
            adapters=adapters,
            loading=frozenset(self._slots.loading),
            message=self._message,
        )
        try:
            await asyncio.to_thread(self._journal.report, report)
        except OSError as exc:
            log.warning("the journal does not answer", extra={"error": str(exc)})
