"""Adapters of an engine that loads and unloads them while it runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from engines.errors import AdapterNotLoaded, EngineError, EngineUnreachable
from engines.loops import log_failure
from engines.protocol import Engine
from engines.replica.adapter_sets import Pace, Trials
from engines.replica.report import SlotPhase, SlotReport

log = logging.getLogger(__name__)


class ResidentAdapters:
    """An `AdapterSet` of a running engine: it loads, proves and reports one adapter after another."""

    def __init__(self, engine: Engine, trials: Trials, pace: Pace) -> None:
        self._engine = engine
        self._trials = trials
        self._board = trials.board
        self._pace = pace
        self._resident: dict[str, SlotReport] = {}
        """Adapters in the engine, each with the outcome of its proof."""
        self._leaving: dict[str, asyncio.Task[None]] = {}
        self._unloading: set[str] = set()

    async def step(self, wanted: Mapping[str, str]) -> bool:
        """Unload what is not wanted; load and prove the most needed adapter that is missing, if a place is free."""
        self._trials.forget_all_but(wanted)
        self._let_go(wanted)
        missing = [name for name in wanted if self._is_missing(name)]
        for name in missing:
            if self._board.slot(name) is None:
                self._board.put(name, SlotReport(phase=SlotPhase.LOADING))
        has_room = len(self._resident) < self._engine.traits.max_adapters
        # An adapter that failed its proof and was not unloaded has a place already: another try needs no free one.
        if not missing or not (has_room or missing[0] in self._resident):
            return False
        await self._load(missing[0], wanted[missing[0]])
        return len(missing) > 1

    def _is_missing(self, name: str) -> bool:
        slot = self._resident.get(name)
        return (slot is None or slot.phase is not SlotPhase.READY) and self._trials.is_due(name)

    def _let_go(self, wanted: Mapping[str, str]) -> None:
        for name in list(self._board.slots()):
            if name not in wanted:
                self._board.drop(name)
        for name in set(self._resident) - set(wanted) - set(self._leaving):
            self._leaving[name] = asyncio.create_task(self._leave(name), name=f"unloading of {name}")
            self._leaving[name].add_done_callback(log_failure)
        # An unload that has begun is not cancelled, as the server may have done it already; the adapter is loaded anew.
        for name in (set(wanted) & set(self._leaving)) - self._unloading:  # wanted again in time
            self._leaving.pop(name).cancel()
            self._board.put(name, self._resident[name])

    async def _leave(self, name: str) -> None:
        """Remove the adapter from the report, so that gateways route around it, then from the engine."""
        try:
            await self._board.reported()
            await asyncio.sleep(self._pace.unroute_s)
            await self._unload(name)
        finally:
            self._leaving.pop(name, None)

    async def _unload(self, name: str) -> None:
        self._unloading.add(name)
        try:
            await self._engine.unload_adapter(name)
        # The server does not have the adapter, whoever removed it: the place is free.
        except AdapterNotLoaded:
            pass
        except EngineError as exc:
            log.warning("adapter not unloaded, trying again", extra={"served_name": name, "error": str(exc)})
            return
        finally:
            self._unloading.discard(name)
        self._resident.pop(name, None)

    async def _load(self, name: str, artifact: str) -> None:
        self._board.put(name, SlotReport(phase=SlotPhase.LOADING))
        folder = await self._trials.fetch(name, artifact)
        if folder is None:
            return
        try:
            await self._engine.load_adapter(name, folder)
        except EngineUnreachable as exc:
            self._board.put(name, self._trials.unanswered(name, "load_failed", str(exc)))
            return
        except EngineError as exc:
            self._trials.fail(name, "load_failed", str(exc))
            return
        # From here the adapter takes a place in the engine, even if the proof is cancelled before its verdict.
        self._resident[name] = SlotReport(phase=SlotPhase.FAILED, reason="not_proven")
        self._board.put(name, SlotReport(phase=SlotPhase.PROVING))
        slot = self._resident[name] = await self._trials.prove(self._engine.base_url, name, folder)
        self._board.put(name, slot)
        if slot.phase is SlotPhase.FAILED:
            await self._unload(name)

    def end(self) -> None:
        """Cancel what runs in the background."""
        for task in self._leaving.values():
            task.cancel()
