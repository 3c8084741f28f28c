"""A replica keeps an engine running with the wanted adapters, proven, and reports about it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Final

from engines.errors import EngineError
from engines.loops import Loops
from engines.replica.adapter_sets import AdapterSet, EngineSource, Pace, Trials
from engines.replica.board import Board
from engines.replica.launched_adapters import LaunchedAdapters
from engines.replica.report import Journal, Phase, Prover
from engines.replica.resident_adapters import ResidentAdapters
from engines.replica.running import RunningEngines

log = logging.getLogger(__name__)

_MAX_BACKOFF_S: Final = 30.0
_SILENT_PROBES: Final = 2
"""Health checks in a row without an answer after which no new request should come."""
_FAILED_PROBES: Final = 5
"""Health checks in a row without an answer after which the engine is restarted, so that its requests go elsewhere."""
_LOAD_EVERY_S: Final = 1.0
_MEMORY_EVERY_S: Final = 15.0
"""The whole process table is read for it."""
_NOTHING: Final[Mapping[str, Path]] = {}


class EngineReplica:
    """Keeps one engine running: restarts it with back-off, keeps its adapters right, reports."""

    def __init__(self, source: EngineSource, journal: Journal, prover: Prover, pace: Pace) -> None:
        self._journal = journal
        self._pace = pace
        self._board = Board(journal, pace.beat_s)
        self._trials = Trials(journal, prover, self._board)
        self._engines = RunningEngines(source, pace)
        self._loops = Loops()
        self._failed_probes = 0

    @property
    def load(self) -> int:
        """Requests that run or wait in the engine, by its last answer."""
        return self._board.load

    @property
    def is_settling(self) -> bool:
        """Whether the engine is on its way, or an adapter is being loaded or proven."""
        return self._board.phase is Phase.STARTING or not self._board.has_outcome_of(self._board.slots())

    async def run(self) -> None:
        """Keep the engine running until cancelled; `drain` then ends it. No error ends it, and none is silent."""
        self._loops.start("reports", self._board.run)
        self._loops.start("engine", self._keep)
        try:
            await self._loops.ended()
        finally:
            self._loops.cancel()

    def down(self, for_s: float) -> tuple[str, ...]:
        """Return the loops of this replica that fail since *for_s* seconds."""
        return self._loops.down(for_s)

    async def drain(self, unroute_s: float, drain_timeout_s: float) -> None:
        """Report that no request should come, let gateways see it, then stop the engine when its requests are done."""
        self._board.set_phase(Phase.DRAINING)
        # `run` was cancelled before, so no other task sends this report.
        await self._board.report()
        await asyncio.sleep(unroute_s)
        await self._engines.end_all(drain_timeout_s)

    async def _keep(self) -> None:
        backoff_s = 1.0
        # An error that no one foresaw may have left an engine behind when it ended this loop.
        if self._board.phase is Phase.READY:
            self._board.set_phase(Phase.UNHEALTHY, "an error of Lorry ended the engine; the log engines has it")
        self._board.clear()
        await self._engines.end_all(0.0)
        while True:
            began = time.monotonic()
            try:
                await self._serve()
            except* EngineError as failed:
                message = _first_message(failed)
                log.warning("engine failed", extra={"error": message})
                self._board.set_phase(Phase.UNHEALTHY, message)
            self._board.clear()
            await self._engines.end_all(0.0)
            # An engine that served for a minute did not fail at its start, so the next start need not wait.
            backoff_s = 1.0 if time.monotonic() - began > 60.0 else min(2 * backoff_s, _MAX_BACKOFF_S)
            await asyncio.sleep(backoff_s / 2)

    async def _serve(self) -> None:
        """Start an engine, then look after it until it dies or stops answering."""
        adapters = await self._launch()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._watch())
                group.create_task(self._read_load())
                group.create_task(self._read_memory())
                group.create_task(self._reconcile(adapters))
        finally:
            adapters.end()

    async def _launch(self) -> AdapterSet:
        """Start the engine, with the wanted adapters where they are part of the launch; bare if that fails."""
        # A new process is a new chance: adapters that failed in the old one are tried at once.
        self._trials.forget_all_but({})
        source = self._engines.source
        folders = _NOTHING if source.live_adapters else await self._wanted_folders()
        try:
            engine = await self._engines.start(folders)
        except EngineError as exc:
            if not folders:
                raise
            # An adapter that prevents the start must not take the base model from clients.
            log.warning("engine does not start with its adapters", extra={"error": str(exc)})
            folders = _NOTHING
            engine = await self._engines.start(folders)
        self._engines.serve_with(engine)
        self._board.move_to(engine.base_url, engine.traits, self._board.slots())
        if source.live_adapters:
            return ResidentAdapters(engine, self._trials, self._pace)
        return LaunchedAdapters(self._engines, folders, self._trials)

    async def _wanted_folders(self) -> dict[str, Path]:
        wanted = await self._wanted()
        fetched = {name: await self._trials.fetch(name, artifact) for name, artifact in (wanted or {}).items()}
        return {name: folder for name, folder in fetched.items() if folder is not None}

    async def _wanted(self) -> Mapping[str, str] | None:
        """Return what should be loaded, or None while the journal does not answer: then all stays as it is."""
        try:
            return await asyncio.to_thread(self._journal.wanted)
        except OSError as exc:
            log.warning("the journal does not answer, adapters stay", extra={"error": str(exc)})
            return None

    async def _reconcile(self, adapters: AdapterSet) -> None:
        """Step towards what is wanted; the replica is ready once everything was tried."""
        while True:
            more = False
            if (asked := await self._wanted()) is not None:
                wanted = dict(islice(asked.items(), self._engines.serving.traits.max_adapters))
                more = await adapters.step(wanted)
                # `_watch` reports a silent engine as unhealthy; only this task makes the replica ready again.
                is_silent = self._failed_probes >= _SILENT_PROBES
                if self._board.phase is not Phase.READY and not is_silent and self._board.has_outcome_of(wanted):
                    self._board.set_phase(Phase.READY)
            if not more:
                await asyncio.sleep(self._pace.tick_s)

    async def _watch(self) -> None:
        """Raise `EngineError` when the engine that serves exits or answers no probe for a while."""
        while True:
            engine = self._engines.serving
            # Another process may be made to serve meanwhile; the inner loop ends then and this one watches the new one.
            exited = asyncio.create_task(engine.wait_exit())
            self._failed_probes = 0
            try:
                while engine is self._engines.serving:
                    # `wait` leaves the task running at its timeout; `wait_for` would cancel it.
                    # A silent engine is looked at again soon; one that ends is noticed at once, by its process.
                    pause_s = self._pace.tick_s if self._failed_probes else self._pace.beat_s
                    await asyncio.wait({exited}, timeout=pause_s)
                    if exited.done() and engine is self._engines.serving:
                        raise EngineError(_exit_reason(exited.result(), engine.last_log_lines()))
                    self._failed_probes = 0 if await engine.is_healthy() else self._failed_probes + 1
                    if self._failed_probes >= _FAILED_PROBES:
                        raise EngineError(f"engine did not answer {_FAILED_PROBES} health probes in a row")
                    if self._failed_probes >= _SILENT_PROBES:
                        self._board.set_phase(Phase.UNHEALTHY, "the engine answers no health probe")
            finally:
                exited.cancel()

    async def _read_load(self) -> None:
        """Read the engine's load; a task of its own, as an engine that hangs may hold the answer back."""
        while True:
            with suppress(EngineError):
                load = await self._engines.serving.load()
                self._board.load = load.running + load.waiting
            # An engine without requests is asked more rarely, as every answer costs an idle machine something.
            await asyncio.sleep(_LOAD_EVERY_S if self._board.load else max(_LOAD_EVERY_S, self._pace.beat_s))

    async def _read_memory(self) -> None:
        while True:
            self._board.memory_bytes = await self._engines.serving.memory_bytes()
            await asyncio.sleep(_MEMORY_EVERY_S)


def _exit_reason(code: int, log_lines: str) -> str:
    return f"engine exited with code {code}" + (f"; log:\n{log_lines}" if log_lines else "")


def _first_message(failed: BaseExceptionGroup[BaseException]) -> str:
    """Return the message of the first error of a group."""
    first = failed.exceptions[0]
    return _first_message(first) if isinstance(first, BaseExceptionGroup) else str(first)
