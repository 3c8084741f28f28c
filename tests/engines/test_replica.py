"""A replica keeps its engine running and its adapters right, against an engine that fails on demand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path

from engines.errors import AdapterLoadFailed, EngineStartFailed
from engines.load import EngineLoad
from engines.protocol import EngineTraits
from engines.replica import EngineReplica, Phase, ReplicaReport

TICK_S = 0.01


class ScriptedEngine:
    """An engine that dies, refuses and stops answering when told to."""

    traits = EngineTraits(live_adapters=True, max_adapters=8)
    base_url = "http://127.0.0.1:1"

    def __init__(self) -> None:
        self.starts = 0
        self.loaded: set[str] = set()
        self.refused: set[str] = set()
        self.fails_to_start = 0
        self.answers = True
        self._died = asyncio.Event()

    def die(self) -> None:
        self._died.set()

    async def start(self) -> None:
        self.starts += 1
        if self.starts <= self.fails_to_start:
            raise EngineStartFailed("out of memory")
        self._died.clear()
        self.answers = True
        self.loaded.clear()

    async def stop(self, drain_timeout_s: float) -> None:
        self.loaded.clear()

    async def is_healthy(self) -> bool:
        return self.answers

    async def wait_exit(self) -> int:
        await self._died.wait()
        return -9

    def last_log_lines(self) -> str:
        return "out of memory"

    async def load(self) -> EngineLoad:
        return EngineLoad(running=0, waiting=0, kv_use=None)

    async def loaded_adapters(self) -> frozenset[str]:
        return frozenset(self.loaded)

    async def load_adapter(self, served_name: str, path: Path) -> None:
        if served_name in self.refused:
            raise AdapterLoadFailed("rank 400 is above the limit")
        self.loaded.add(served_name)

    async def unload_adapter(self, served_name: str) -> None:
        self.loaded.discard(served_name)


class Notebook:
    """A journal in memory."""

    def __init__(self, *wanted: str) -> None:
        self.wanted_names = set(wanted)
        self.reports: list[ReplicaReport] = []
        self.is_away = False

    def wanted(self) -> dict[str, str]:
        if self.is_away:
            raise OSError("away")
        return dict.fromkeys(sorted(self.wanted_names), "digest")

    def fetch(self, artifact: str) -> Path:
        return Path("/artifacts") / artifact

    def report(self, report: ReplicaReport) -> None:
        if self.is_away:
            raise OSError("away")
        self.reports.append(report)

    @property
    def ready(self) -> set[str]:
        """Served names that the latest report calls ready, if the replica is."""
        if not self.reports or self.reports[-1].phase is not Phase.READY:
            return set()
        return {name for name, why in self.reports[-1].adapters.items() if not why}


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - what is waited for is on the other side of the protocol
            await asyncio.sleep(TICK_S)


def run(
    story: Callable[[ScriptedEngine, Notebook], Coroutine[object, object, None]], *wanted: str, fails_to_start: int = 0
) -> None:
    """Tell *story* of an engine and the journal that wants *wanted* of it, while the replica runs."""

    async def tell() -> None:
        engine, notebook = ScriptedEngine(), Notebook(*wanted)
        engine.fails_to_start = fails_to_start
        replica = EngineReplica(engine, notebook, TICK_S)
        running = asyncio.create_task(replica.run())
        await story(engine, notebook)
        assert not running.done()
        running.cancel()

    asyncio.run(tell())


def test_what_is_wanted_is_loaded_and_reported() -> None:
    async def story(engine: ScriptedEngine, notebook: Notebook) -> None:
        await until(lambda: notebook.ready == {"support@1", "support@2"})
        assert engine.loaded == {"support@1", "support@2"}

    run(story, "support@1", "support@2")


def test_an_engine_that_dies_is_unhealthy_started_again_and_gets_its_adapters_back() -> None:
    async def story(engine: ScriptedEngine, notebook: Notebook) -> None:
        await until(lambda: notebook.ready == {"support@1"})
        engine.die()
        await until(lambda: notebook.reports[-1].phase is Phase.UNHEALTHY)
        assert "code -9" in notebook.reports[-1].message
        assert notebook.reports[-1].adapters == {}
        await until(lambda: notebook.ready == {"support@1"})
        assert engine.starts == 2

    run(story, "support@1")


def test_an_engine_that_stops_answering_is_started_again() -> None:
    async def story(engine: ScriptedEngine, notebook: Notebook) -> None:
        await until(lambda: notebook.ready == {"support@1"})
        engine.answers = False
        await until(lambda: notebook.reports[-1].phase is Phase.UNHEALTHY)
        await until(lambda: notebook.ready == {"support@1"})
        assert engine.starts == 2

    run(story, "support@1")


def test_an_engine_that_does_not_start_is_tried_again_and_says_why() -> None:
    async def story(engine: ScriptedEngine, notebook: Notebook) -> None:
        await until(lambda: any(report.message == "out of memory" for report in notebook.reports))
        await until(lambda: notebook.ready == {"support@1"})
        assert engine.starts == 2

    run(story, "support@1", fails_to_start=1)


def test_a_refused_adapter_is_failed_with_the_engines_words_and_hinders_no_other() -> None:
    async def story(engine: ScriptedEngine, notebook: Notebook) -> None:
        engine.refused = {"support@1"}
        await until(lambda: notebook.ready == {"support@2"})
        assert notebook.reports[-1].adapters["support@1"] == "rank 400 is above the limit"

    run(story, "support@1", "support@2")


def test_an_adapter_leaves_the_report_before_it_leaves_the_engine() -> None:
    async def story(engine: ScriptedEngine, notebook: Notebook) -> None:
        await until(lambda: notebook.ready == {"support@1", "support@2"})
        notebook.wanted_names = {"support@2"}
        await until(lambda: notebook.ready == {"support@2"})
        assert "support@1" in engine.loaded
        await until(lambda: engine.loaded == {"support@2"})

    run(story, "support@1", "support@2")


def test_while_the_journal_is_away_everything_stays() -> None:
    async def story(engine: ScriptedEngine, notebook: Notebook) -> None:
        await until(lambda: notebook.ready == {"support@1"})
        notebook.is_away = True
        known = len(notebook.reports)
        await asyncio.sleep(10 * TICK_S)
        assert engine.loaded == {"support@1"}
        notebook.is_away = False
        await until(lambda: len(notebook.reports) > known)
        assert engine.starts == 1

    run(story, "support@1")
