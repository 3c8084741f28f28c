"""The parts that both ways of keeping adapters share: folders, proof, and pauses after a failure."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from engines.errors import EngineError, EngineUnreachable, FingerprintMissing
from engines.protocol import Engine
from engines.replica.board import Board
from engines.replica.report import Journal, Prover, SlotPhase, SlotReport

log = logging.getLogger(__name__)

_RETRY_S: Final = 10.0
_LONGEST_RETRY_S: Final = 300.0
_PATIENCE: Final = 3
"""Replays in a row without an answer after which the adapter has failed; until then the server is to blame."""
_ASK_AGAIN_S: Final = 1.0
_BEAT_TICKS: Final = 8
_BEAT_S: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast a replica moves."""

    tick_s: float
    """Seconds between two looks at what should be loaded, and after a health check that failed."""
    unroute_s: float
    """Seconds after a report in which gateways may still send by the report before it."""
    settle_s: float
    """Seconds that the wanted set must stay as it is before a process is replaced for it."""
    drain_timeout_s: float
    """Seconds that requests may take to finish in a process that another one replaced."""

    @property
    def beat_s(self) -> float:
        """Seconds between two health checks, and between two reports, where nothing changes.

        Both cost an idle machine more than a look does.
        """
        return min(_BEAT_TICKS * self.tick_s, max(self.tick_s, _BEAT_S))


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSource:
    """The source of a replica's engines; each is started at most once."""

    build: Callable[[Mapping[str, Path]], Engine]
    """Builds a new engine, not started, with these adapters (served name -> folder); `EngineError`."""
    live_adapters: bool
    """The engines take adapters while they run, so they are built with none."""


class AdapterSet(Protocol):
    """Brings the adapters of running engines nearer to what is wanted."""

    async def step(self, wanted: Mapping[str, str]) -> bool:
        """Do the next thing that *wanted* (served name -> artifact) asks for; return whether there is more to do."""
        ...

    def end(self) -> None:
        """Cancel what runs in the background; engines are ended by their owner."""
        ...


@dataclass(slots=True)
class _Failure:
    count: int = 0
    unanswered: int = 0
    retry_at: float = 0.0


@dataclass(slots=True)
class Trials:
    """Fetches and proves adapters, reports the outcome on the board, and remembers what failed and when."""

    journal: Journal
    prover: Prover
    board: Board
    _failures: dict[str, _Failure] = field(default_factory=dict)

    def is_due(self, served_name: str) -> bool:
        """Whether the adapter may be tried: it did not fail, or its pause is over."""
        failure = self._failures.get(served_name)
        return failure is None or time.monotonic() >= failure.retry_at

    def forget_all_but(self, served_names: Mapping[str, str]) -> None:
        """Forget the failures of all other adapters, which start afresh when they are wanted again."""
        self._failures = {name: failure for name, failure in self._failures.items() if name in served_names}

    async def fetch(self, served_name: str, artifact: str) -> Path | None:
        """Return the adapter's folder, or None after its failure was reported."""
        try:
            return await asyncio.to_thread(self.journal.fetch, artifact)
        except OSError as exc:
            self.fail(served_name, "load_failed", str(exc))
            return None

    async def prove(self, url: str, served_name: str, folder: Path) -> SlotReport:
        """Replay the adapter's fingerprint at *url* and return what to report: ready, failed, or to be tried again."""
        try:
            verdict = await self.prover(url, served_name, folder)
        except FingerprintMissing as exc:
            return self._failed(served_name, "no_fingerprint", f"{exc}; publish it again, which makes one")
        except EngineUnreachable as exc:
            return self.unanswered(served_name, "not_proven", f"its fingerprint could not be replayed: {exc}")
        except EngineError as exc:
            return self._failed(served_name, "not_proven", f"its fingerprint could not be replayed: {exc}")
        if not verdict.passed:
            return self._failed(served_name, "fingerprint_mismatch", verdict.message, proof=verdict.as_json())
        # Only a passed proof ends a series of failures: an adapter that loads may still compute something else.
        self._failures.pop(served_name, None)
        if verdict.remark:
            log.warning("adapter proven with a remark", extra={"served_name": served_name, "remark": verdict.remark})
        return SlotReport(phase=SlotPhase.READY, message=verdict.remark, proof=verdict.as_json())

    def unanswered(self, served_name: str, reason: str, message: str) -> SlotReport:
        """Return what to report when the server did not answer: the adapter waits, and fails after `_PATIENCE` times.

        A server that dies does not answer either, and its adapters are not at fault.
        """
        failure = self._failures.setdefault(served_name, _Failure())
        failure.unanswered += 1
        if failure.unanswered >= _PATIENCE:
            return self._failed(served_name, reason, message)
        failure.retry_at = time.monotonic() + _ASK_AGAIN_S  # soon: nothing was held against the adapter yet
        log.warning("the server did not answer", extra={"served_name": served_name, "error": message})
        return SlotReport(phase=SlotPhase.LOADING, message=message)

    def fail(self, served_name: str, reason: str, message: str) -> None:
        """Report the failure; the adapter is due again after a pause, twice as long each time."""
        self.board.put(served_name, self._failed(served_name, reason, message))

    def _failed(
        self, served_name: str, reason: str, message: str, proof: Mapping[str, object] | None = None
    ) -> SlotReport:
        failure = self._failures.setdefault(served_name, _Failure())
        # Every try costs a load and a replay beside clients' requests, so tries become rarer.
        pause_s = min(_RETRY_S * 2.0**failure.count, _LONGEST_RETRY_S)
        failure.count += 1
        failure.retry_at = time.monotonic() + pause_s
        log.warning("adapter failed", extra={"served_name": served_name, "reason": reason, "error": message})
        return SlotReport(phase=SlotPhase.FAILED, reason=reason, message=message, proof=proof)
