"""The present report of a replica, which is sent at every change and again at every beat."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterable
from contextlib import suppress

from engines.protocol import EngineTraits
from engines.replica.report import Journal, Phase, ReplicaReport, SlotPhase, SlotReport

log = logging.getLogger(__name__)


class Board:
    """Holds the next report of a replica and sends it."""

    def __init__(self, journal: Journal, beat_s: float) -> None:
        """Report every *beat_s* seconds where nothing changes: each report is a write that a disk has to confirm."""
        self._journal = journal
        self._beat_s = beat_s
        self._changed = asyncio.Event()
        self._made = asyncio.Condition()
        self._version = 0
        self._reported = 0
        self._writing = threading.Lock()
        self._written = 0
        self._slots: dict[str, SlotReport] = {}
        self._phase = Phase.STARTING
        self._message = ""
        self._url = ""
        self._paths: frozenset[str] = frozenset()
        self._reads_calls = True
        self.load = 0
        """Requests that run or wait in the engine; goes out with the next report."""
        self.memory_bytes: int | None = None
        """Resident memory of the engine's processes; goes out with the next report."""

    async def run(self) -> None:
        """Report until cancelled."""
        while True:
            self._changed.clear()  # before the report, so that a change during it makes another one
            await self.report()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._beat_s):  # `wait_for` loses a cancellation that comes with a change
                    await self._changed.wait()

    @property
    def phase(self) -> Phase:
        """The state that a replica reports."""
        return self._phase

    def set_phase(self, phase: Phase, message: str = "") -> None:
        """Report that the replica is in *phase*."""
        if (phase, message) != (self._phase, self._message):
            self._phase, self._message = phase, message
            self._change()

    def move_to(self, url: str, traits: EngineTraits, slots: dict[str, SlotReport]) -> None:
        """Send requests to *url*, whose engine has *traits* and these slots; one report has all of it."""
        self._url, self._slots = url, dict(slots)
        self._paths, self._reads_calls = traits.paths, traits.reads_calls
        self._change()

    def slot(self, served_name: str) -> SlotReport | None:
        """Return what is reported of one adapter."""
        return self._slots.get(served_name)

    def slots(self) -> dict[str, SlotReport]:
        """Return what is reported of every adapter."""
        return dict(self._slots)

    def has_outcome_of(self, served_names: Iterable[str]) -> bool:
        """Whether each of these adapters is ready or has failed."""
        slots = (self._slots.get(name) for name in served_names)
        return all(slot is not None and slot.phase in (SlotPhase.READY, SlotPhase.FAILED) for slot in slots)

    def put(self, served_name: str, slot: SlotReport) -> None:
        """Report this of one adapter."""
        if self._slots.get(served_name) != slot:
            self._slots[served_name] = slot
            self._change()

    def drop(self, served_name: str) -> None:
        """Leave the adapter out of the report, so that gateways route around it."""
        if self._slots.pop(served_name, None) is not None:
            self._change()

    def clear(self) -> None:
        """Leave all adapters out of the report."""
        self._slots.clear()
        self._change()

    async def reported(self) -> None:
        """Return once the present report is stored."""
        version = self._version
        async with self._made:
            await self._made.wait_for(lambda: self._reported >= version)

    async def report(self) -> None:
        """Report once; a journal that does not answer gets the next report a tick later."""
        # No await comes between version and report, so the version stands for exactly what the report has.
        version = self._version
        report = ReplicaReport(
            url=self._url,
            phase=self._phase,
            paths=self._paths,
            reads_calls=self._reads_calls,
            slots=dict(self._slots),
            load=self.load,
            message=self._message,
            memory_bytes=self.memory_bytes,
        )
        try:
            await asyncio.to_thread(self._write, version, report)
        except OSError as exc:
            # `reported` goes on waiting: gateways still route by the report before.
            log.warning("the journal does not answer", extra={"error": str(exc)})
            return
        async with self._made:
            # `run` and `drain` both report, and the earlier version may be stored last.
            self._reported = max(version, self._reported)
            self._made.notify_all()

    def _write(self, version: int, report: ReplicaReport) -> None:
        """Write one report at a time; what a cancelled caller still has on its way does not overwrite a newer one."""
        with self._writing:  # the thread of a cancelled caller runs on, and may be here at the same time
            if version >= self._written:
                self._journal.report(report)
                self._written = version

    def _change(self) -> None:
        self._version += 1
        self._changed.set()
