"""An engine that fails on demand, and a journal in memory, for the laws of a replica."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engines.errors import AdapterLoadFailed, AdapterNotLoaded, EngineStartFailed, EngineUnreachable, FingerprintMissing
from engines.load import EngineLoad
from engines.protocol import EngineTraits
from engines.replica.adapter_sets import EngineSource, Pace
from engines.replica.report import Phase, ReplicaReport, SlotPhase, SlotReport

TICK_S = 0.01
PACE = Pace(tick_s=TICK_S, unroute_s=8 * TICK_S, settle_s=4 * TICK_S, drain_timeout_s=5.0)


def opened() -> asyncio.Event:
    """A gate that is open."""
    gate = asyncio.Event()
    gate.set()
    return gate


@dataclass(slots=True)
class Script:
    """The behaviour of the engines of one replica, and what was done with them."""

    live: bool = True
    max_adapters: int = 8
    paths: frozenset[str] = frozenset({"/v1/chat/completions"})
    built: list[ScriptedEngine] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    unlike_the_trainer: set[str] = field(default_factory=set)
    without_fingerprint: set[str] = field(default_factory=set)
    unanswered: dict[str, int] = field(default_factory=dict)
    """How many replays of an adapter the server does not answer."""
    failing_starts: set[int] = field(default_factory=set)
    """Numbers of the engines, from 1, that do not start."""
    may_start: asyncio.Event = field(default_factory=opened)
    may_load: asyncio.Event = field(default_factory=opened)
    may_prove: asyncio.Event = field(default_factory=opened)
    may_tell_load: asyncio.Event = field(default_factory=opened)
    is_idle: asyncio.Event = field(default_factory=opened)
    """Draining waits for it."""
    proven: list[tuple[str, str]] = field(default_factory=list)
    """Address and served name of every replay."""
    most_at_once: int = 0

    def build(self, adapters: Mapping[str, Path]) -> ScriptedEngine:
        self.built.append(ScriptedEngine(self, len(self.built) + 1, set(adapters)))
        return self.built[-1]

    @property
    def source(self) -> EngineSource:
        return EngineSource(build=self.build, live_adapters=self.live)

    @property
    def engine(self) -> ScriptedEngine:
        """The one that was built last."""
        return self.built[-1]

    @property
    def running(self) -> list[ScriptedEngine]:
        return [engine for engine in self.built if engine.is_running]

    async def prove(self, url: str, served_name: str, folder: Path) -> ScriptedVerdict:
        assert served_name in next(engine for engine in self.built if engine.base_url == url).loaded
        await self.may_prove.wait()
        self.proven.append((url, served_name))
        if self.unanswered.get(served_name, 0) > 0:
            self.unanswered[served_name] -= 1
            raise EngineUnreachable("POST /v1/chat/completions: timeout")
        if served_name in self.without_fingerprint:
            raise FingerprintMissing(f"{folder.name} has no fingerprint.json")
        return ScriptedVerdict(served_name not in self.unlike_the_trainer)


@dataclass(slots=True)
class ScriptedVerdict:
    passed: bool

    @property
    def message(self) -> str:
        return f"mean difference {self.as_json()['mean_difference']}"

    @property
    def remark(self) -> str:
        return ""

    def as_json(self) -> dict[str, Any]:
        return {"mean_difference": 0.001 if self.passed else 0.9}


class ScriptedEngine:
    """An engine that dies, refuses and stops answering on demand."""

    def __init__(self, script: Script, number: int, adapters: set[str]) -> None:
        self.number = number
        self.loaded = adapters
        self.base_url = f"http://127.0.0.1:{number}"
        self.answers = True
        self.silent_probes = 0
        """So many health probes are not answered from now on."""
        self.is_running = False
        self.drained = False
        self._script = script
        self._died = asyncio.Event()

    @property
    def traits(self) -> EngineTraits:
        return EngineTraits(
            live_adapters=self._script.live, max_adapters=self._script.max_adapters, paths=self._script.paths
        )

    def die(self) -> None:
        self._died.set()

    async def start(self) -> None:
        assert not self.is_running
        self.is_running = True
        self._script.most_at_once = max(self._script.most_at_once, len(self._script.running))
        await self._script.may_start.wait()
        if self.number in self._script.failing_starts:
            raise EngineStartFailed("out of memory")
        if refused := self.loaded & self._script.refused:
            raise EngineStartFailed(f"rank of {min(refused)} is above the limit")

    async def stop(self, drain_timeout_s: float) -> None:
        if drain_timeout_s > 0:
            await self._script.is_idle.wait()
            self.drained = True
        self.is_running = False

    async def is_healthy(self) -> bool:
        self.silent_probes -= 1
        return self.answers and self.silent_probes < 0

    async def wait_exit(self) -> int:
        await self._died.wait()
        return -9

    async def loaded_adapters(self) -> frozenset[str]:
        return frozenset(self.loaded)

    async def load(self) -> EngineLoad:
        await self._script.may_tell_load.wait()
        if not self.answers:
            raise EngineUnreachable("no answer")
        return EngineLoad(running=3, waiting=2)

    async def memory_bytes(self) -> int | None:
        return 1000

    def last_log_lines(self) -> str:
        return "Killed\n"

    async def load_adapter(self, served_name: str, path: Path) -> None:
        await self._script.may_load.wait()
        if served_name in self._script.refused:
            raise AdapterLoadFailed("rank 400 is above the limit")
        assert len(self.loaded | {served_name}) <= self._script.max_adapters
        self.loaded.add(served_name)

    async def unload_adapter(self, served_name: str) -> None:
        if served_name not in self.loaded:
            raise AdapterNotLoaded(served_name)
        self.loaded.discard(served_name)


class Notebook:
    """A journal in memory."""

    def __init__(self, *wanted: str) -> None:
        self.wanted_names = list(wanted)
        self.reports: list[ReplicaReport] = []
        self.is_away = False
        self.broken = ""
        """The call that raises what nobody foresees: `wanted` or `report`."""
        self.corrupt: set[str] = set()

    def wanted(self) -> dict[str, str]:
        if self.broken == "wanted":
            raise KeyError("a row that cannot be read")
        if self.is_away:
            raise OSError("away")
        return {name: f"digest of {name}" for name in self.wanted_names}

    def fetch(self, artifact: str) -> Path:
        if artifact.removeprefix("digest of ") in self.corrupt:
            raise OSError("its bytes changed")
        return Path("/artifacts") / artifact

    def report(self, report: ReplicaReport) -> None:
        if self.broken == "report":
            raise KeyError("a report that cannot be written")
        if self.is_away:
            raise OSError("away")
        self.reports.append(report)

    @property
    def last(self) -> ReplicaReport:
        return self.reports[-1]

    @property
    def ready(self) -> set[str]:
        """Served names that the latest report calls ready, if the replica is."""
        if not self.reports or self.last.phase is not Phase.READY:
            return set()
        return {name for name, slot in self.last.slots.items() if slot.phase is SlotPhase.READY}

    def failed(self, served_name: str) -> SlotReport | None:
        """The latest report of a failed adapter."""
        slot = self.last.slots.get(served_name) if self.reports else None
        return slot if slot is not None and slot.phase is SlotPhase.FAILED else None


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - what is waited for is on the other side of the protocol
            await asyncio.sleep(TICK_S)
