"""The report of a replica, and the Protocols of the journal that gets it and of the proof that it rests on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol


class Phase(StrEnum):
    """The state that a replica reports."""

    STARTING = "starting"
    READY = "ready"
    UNHEALTHY = "unhealthy"
    DRAINING = "draining"


class SlotPhase(StrEnum):
    """The states of an adapter in the replica."""

    LOADING = "loading"
    PROVING = "proving"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotReport:
    """An adapter in the replica; `reason` and `message` explain a failure, `proof` has the numbers of its replay."""

    phase: SlotPhase
    reason: str = ""
    message: str = ""
    proof: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaReport:
    """The report of a replica: `slots` by served name, `load` the requests that run or wait in its engine.

    `paths` are those of the inference requests that its engine answers; `reads_calls` is that of `EngineTraits`.
    """

    url: str
    phase: Phase
    paths: frozenset[str]
    slots: Mapping[str, SlotReport]
    load: int
    message: str
    reads_calls: bool = True
    memory_bytes: int | None = None
    """Resident memory of the engine's processes; None where that is not known."""


class Journal(Protocol):
    """The store of a replica's wanted adapters and of its reports. All calls block; all raise OSError."""

    def wanted(self) -> Mapping[str, str]:
        """Return served name -> artifact of every adapter that should be loaded here, most needed first."""
        ...

    def fetch(self, artifact: str) -> Path:
        """Return the artifact's folder, its bytes verified."""
        ...

    def report(self, report: ReplicaReport) -> None:
        """Store the report, with a fresh heartbeat."""
        ...


class ProofVerdict(Protocol):
    """Whether a server computes an adapter as its trainer did; `engines.proving.proof.Proof` is one."""

    @property
    def passed(self) -> bool:
        """Whether the server computes the adapter as its trainer did."""
        ...

    @property
    def message(self) -> str:
        """The numbers in words."""
        ...

    @property
    def remark(self) -> str:
        """The text that people should see of a proof that passed; usually empty."""
        ...

    def as_json(self) -> dict[str, Any]:
        """Return the numbers, for storing."""
        ...


class Prover(Protocol):
    """Replays an adapter's fingerprint through the server that loaded it."""

    async def __call__(self, url: str, served_name: str, folder: Path) -> ProofVerdict:
        """Return the verdict on *served_name* at *url*, loaded from *folder*.

        `FingerprintMissing` when there is nothing to replay, `EngineError` when the server cannot be asked.
        """
        ...
