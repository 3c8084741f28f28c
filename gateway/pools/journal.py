"""A replica's side of the registry: which adapters it should have loaded, and its reports."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from engines.network.cluster_secret import registered_address
from engines.replica.report import Phase, ReplicaReport, SlotPhase
from gateway.routing.placement import wanted_in
from registry.changes import REPLICA_PLACES
from registry.database import Registry
from registry.errors import RegistryError
from registry.states import ReplicaState, SlotState
from registry.types import Replica, Slot

_WHOLE_EVERY_S: Final = 10.0
"""How often placement is asked where nothing changed: a place that is kept after a promotion ends with time alone."""
RESTS: Final = 9.0
"""How many times the processor time of placement it is not asked again: with thousands of adapters that is long."""
_DECIDING: Final = frozenset(
    {"adapters", REPLICA_PLACES, "revision_uses", "revisions", "rollouts", "served_checkpoints"}
)
"""The change numbers of what placement depends on. The adapters of other replicas do not belong to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaIdentity:
    """The part of a replica's row that never changes."""

    id: str
    pool: str
    """Name of its pool; empty for an engine that was entered by hand."""
    base: str
    adapters_of: str = ""
    """The base model whose adapters it takes in place of its own's; empty for its own."""
    engine: str
    capacity: int
    max_rank: int
    """Highest rank that the replica takes; 0 where that is not known."""
    room: int
    """Requests that each gateway may have there at a time; 0 where that is not known."""
    rollback_window_s: float
    started_at: float


class RegistryJournal:
    """`engines.replica.report.Journal` over the registry."""

    def __init__(self, registry: Registry, identity: ReplicaIdentity) -> None:
        self._registry = registry
        self._identity = identity
        self._row = _first_row(identity)
        self._placed: Mapping[str, str] = {}
        self._placed_for: tuple[Mapping[str, int], ReplicaState] | None = None
        """Change numbers and own state that `_placed` follows from; None before the first reading."""
        self._placed_at = self._rests_until = -math.inf
        self._digests: dict[str, str] = {}
        """Served name -> artifact of all that was placed here and is not unloaded yet."""
        self._held = set[str]()

    @property
    def replica_id(self) -> str:
        """The id of the replica."""
        return self._identity.id

    @property
    def held(self) -> frozenset[str]:
        """The artifacts that stay on this machine because they are loaded here, or about to be."""
        return frozenset(self._held)

    def wanted(self) -> Mapping[str, str]:
        """Return served name -> artifact digest of what placement puts here; `OSError` without a registry."""
        try:
            # The numbers are read before the snapshot: a change in between is read twice, but never missed.
            now, ground = self._registry.transactions.steady(), (self._numbers(), self._row.state)
            is_due = ground != self._placed_for or now - self._placed_at > _WHOLE_EVERY_S
            if is_due and time.monotonic() >= self._rests_until:
                worked = time.thread_time()
                self._placed = self._place()
                self._placed_for, self._placed_at = ground, now
                # Not for as long as the registry let the replica wait, or what is new would be loaded minutes later.
                self._rests_until = time.monotonic() + RESTS * (time.thread_time() - worked)
        except RegistryError as exc:
            raise OSError(f"registry: {exc}") from exc
        return self._placed

    def _numbers(self) -> Mapping[str, int]:
        """Return the change numbers of what placement depends on, from memory where that is possible."""
        numbers = self._registry.changes_at_once()
        if numbers is None:
            numbers = self._registry.changes()
        return {name: number for name, number in numbers.items() if name in _DECIDING}

    def _place(self) -> Mapping[str, str]:
        snapshot = self._registry.placement_snapshot(self._row.base, self._row.adapter_base)
        warm_since = self._registry.transactions.now() - self._identity.rollback_window_s
        return {
            revision.served_name: revision.artifact
            for revision in wanted_in(snapshot, self._row, warm_since=warm_since)
        }

    def fetch(self, artifact: str) -> Path:
        """Return the artifact's folder, its bytes verified; `OSError` if they changed."""
        try:
            folder = self._registry.artifacts.folder(artifact)
        except RegistryError as exc:
            raise OSError(str(exc)) from exc
        if artifact not in self._held:
            self._registry.artifacts.hold(artifact)
            self._held.add(artifact)
        return folder

    def report(self, report: ReplicaReport) -> None:
        """Store the report as the replica's row, with its heartbeat; `OSError` when the registry does not answer."""
        slots = tuple(
            Slot(
                served_name=name,
                state=_SLOT_STATES[slot.phase],
                reason=slot.reason,
                message=slot.message,
                proof=slot.proof,
            )
            for name, slot in sorted(report.slots.items())
        )
        self._release_all_but(report.slots)
        # The row is kept even if the registry does not answer, as `wanted` asks placement by the present state.
        self._row = replace(
            self._row,
            url=registered_address(report.url),
            state=_STATES[report.phase],
            paths=tuple(sorted(report.paths)),
            reads_calls=report.reads_calls,
            slots=slots,
            load=report.load,
            memory_bytes=report.memory_bytes,
            message=report.message,
            heartbeat_at=self._registry.transactions.now(),
        )
        try:
            self._registry.replicas.report(self._row)
        except RegistryError as exc:
            raise OSError(f"registry: {exc}") from exc

    def _release_all_but(self, loaded: Collection[str]) -> None:
        """Release the artifacts of revisions that are neither *loaded* nor placed here."""
        known = {**self._digests, **self._placed}
        self._digests = {name: digest for name, digest in known.items() if name in loaded or name in self._placed}
        for artifact in self._held - set(self._digests.values()):
            self._registry.artifacts.release(artifact)
            self._held.remove(artifact)

    def leave(self) -> None:
        """Mark the replica as gone; `OSError` when the registry does not answer."""
        try:
            self._registry.replicas.mark_gone(self._identity.id)
        except RegistryError as exc:
            raise OSError(f"registry: {exc}") from exc


def _first_row(identity: ReplicaIdentity) -> Replica:
    return Replica(
        id=identity.id,
        pool=identity.pool,
        base=identity.base,
        adapters_of=identity.adapters_of,
        engine=identity.engine,
        url="",
        state=ReplicaState.STARTING,
        capacity=identity.capacity,
        max_rank=identity.max_rank,
        room=identity.room,
        slots=(),
        message="",
        started_at=identity.started_at,
        heartbeat_at=identity.started_at,
    )


_STATES: Final = {phase: ReplicaState(phase.value) for phase in Phase}
_SLOT_STATES: Final = {phase: SlotState(phase.value) for phase in SlotPhase}
