"""Adapters of an engine that has them from its start to its end: another set takes another process.

The new process is started beside the old one, on a port of its own, and proves its adapters there. Then one report
moves the replica to it; the old one finishes what it has and ends. So there are two processes for a while, never three.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from engines.address import shown_address
from engines.errors import EngineError
from engines.protocol import Engine
from engines.replica.adapter_sets import Trials
from engines.replica.report import SlotPhase, SlotReport
from engines.replica.running import RunningEngines

log = logging.getLogger(__name__)


class LaunchedAdapters:
    """An `AdapterSet` by rolling replacement; the old process serves on where a new set does not start or prove."""

    def __init__(self, engines: RunningEngines, launched: Mapping[str, Path], trials: Trials) -> None:
        """Take *launched*, the folders of the adapters that the serving engine was started with."""
        self._engines = engines
        self._trials = trials
        self._board = trials.board
        self._launched = dict(launched)
        self._proven: dict[str, SlotReport] = {}
        self._asked: tuple[frozenset[str], float] = (frozenset(), 0.0)
        self._draining: asyncio.Task[None] | None = None

    async def step(self, wanted: Mapping[str, str]) -> bool:
        """Prove what the process has; once the names that it lacks stay the same, replace it by one with them."""
        self._trials.forget_all_but(wanted)
        self._show(wanted)
        unproven = [name for name in wanted if name in self._launched and self._is_open(name)]
        # A single proof in each step, so that the caller reads between two proofs what is wanted by now.
        if unproven:
            await self._prove_here(unproven[0])
            return True
        lacking = [name for name in wanted if name not in self._launched and self._trials.is_due(name)]
        for name in lacking:
            if self._board.slot(name) is None:
                self._board.put(name, SlotReport(phase=SlotPhase.LOADING))
        # While an old process drains, the replacement would be a third process.
        if lacking and self._has_settled(lacking) and not self._is_draining():
            await self._replace({name: wanted[name] for name in wanted if name in lacking or name in self._proven})
        return False

    def end(self) -> None:
        """Cancel what runs in the background."""
        if self._draining is not None:
            self._draining.cancel()

    def _show(self, wanted: Mapping[str, str]) -> None:
        """Report what is wanted alone, though the process has the others until it is replaced for another reason."""
        for name in self._board.slots():
            if name not in wanted:
                self._board.drop(name)
        for name in wanted:
            if name in self._proven and self._board.slot(name) is None:
                self._board.put(name, self._proven[name])

    def _is_open(self, name: str) -> bool:
        return name not in self._proven and self._trials.is_due(name)

    def _has_settled(self, lacking: list[str]) -> bool:
        """Whether the lacking names stayed the same for `settle_s`: changes come in groups, for one replacement."""
        names, since = self._asked
        if names != frozenset(lacking):
            self._asked = (frozenset(lacking), time.monotonic())
            return False
        return time.monotonic() - since >= self._engines.pace.settle_s

    def _is_draining(self) -> bool:
        return self._draining is not None and not self._draining.done()

    async def _prove_here(self, name: str) -> None:
        self._board.put(name, SlotReport(phase=SlotPhase.PROVING))
        slot = await self._trials.prove(self._engines.serving.base_url, name, self._launched[name])
        self._board.put(name, slot)
        if slot.phase is SlotPhase.READY:
            self._proven[name] = slot

    async def _replace(self, artifacts: Mapping[str, str]) -> None:
        """Serve *artifacts* (served name -> digest) from a new process if that is better than what is served now."""
        # What is served has its folder already; if it were fetched again and that failed, it would be lost.
        folders = {name: self._launched[name] for name in artifacts if name in self._proven}
        for name in set(artifacts) - set(folders):
            folder = await self._trials.fetch(name, artifacts[name])
            folders |= {name: folder} if folder is not None else {}
        added = [name for name in artifacts if name in folders and name not in self._launched]
        if not added:
            return
        try:
            engine = await self._engines.start(folders)
        except EngineError as exc:
            await self._start_failed(artifacts, added, str(exc))
            return
        slots = await self._prove_there(engine, folders)
        lost = [name for name in folders if name in self._proven and slots[name].phase is not SlotPhase.READY]
        gained = [name for name in added if slots[name].phase is SlotPhase.READY]
        # The new process must not take away what clients have: one adapter lost outweighs all that are gained.
        if lost or not gained:
            await self._engines.end(engine, 0.0)
            self._say_failed(added, slots, lost)
        else:
            self._switch(engine, folders, slots)

    async def _start_failed(self, artifacts: Mapping[str, str], added: list[str], message: str) -> None:
        """Find the adapter that prevents the start: try the halves, each beside what is served."""
        if len(added) == 1:
            self._trials.fail(added[0], "load_failed", message)
            return
        middle = len(added) // 2
        for half in (added[:middle], added[middle:]):
            await self._drained()  # a half that was served replaced a process, which ends before a third one starts
            await self._replace({name: artifacts[name] for name in artifacts if name in half or name in self._proven})

    async def _prove_there(self, engine: Engine, folders: Mapping[str, Path]) -> dict[str, SlotReport]:
        """Prove all adapters anew: nothing was shown by the new process yet."""
        slots = {}
        for name, folder in folders.items():
            if name not in self._launched:
                self._board.put(name, SlotReport(phase=SlotPhase.PROVING))
            slots[name] = await self._trials.prove(engine.base_url, name, folder)
        return slots

    def _say_failed(self, added: Iterable[str], slots: Mapping[str, SlotReport], lost: list[str]) -> None:
        for name in added:
            if slots[name].phase is SlotPhase.FAILED or not lost:
                self._board.put(name, slots[name])
            else:
                why = f"in a process that has it, {lost[0]} no longer passes: {slots[lost[0]].message}"
                self._trials.fail(name, slots[lost[0]].reason or "not_proven", why)

    def _switch(self, engine: Engine, folders: Mapping[str, Path], slots: Mapping[str, SlotReport]) -> None:
        before = self._engines.serving
        self._launched = dict(folders)
        self._proven = {name: slot for name, slot in slots.items() if slot.phase is SlotPhase.READY}
        # From here `_watch` looks at the new process, so the end of the old one is no failure.
        self._engines.serve_with(engine)
        # Adapters that are still to come, or failed, are not in the new process and stay in the report.
        others = {name: slot for name, slot in self._board.slots().items() if name not in slots}
        self._board.move_to(engine.base_url, engine.traits, others | dict(slots))
        log.info(
            "another process serves", extra={"url": shown_address(engine.base_url), "adapters": sorted(self._proven)}
        )
        self._draining = asyncio.create_task(self._drain(before))

    async def _drain(self, engine: Engine) -> None:
        """Let the old process finish and end, once gateways have seen the new address."""
        await self._board.reported()
        await asyncio.sleep(self._engines.pace.unroute_s)
        await self._engines.end(engine, self._engines.pace.drain_timeout_s)

    async def _drained(self) -> None:
        if self._draining is not None:
            await self._draining
