"""What a replica should have loaded, and its reports in the registry: the replica's side of the registry."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from engines.replica import Phase, ReplicaReport
from registry.database import Registry, Snapshot
from registry.errors import RegistryError
from registry.types import Replica, ReplicaState, Revision, Slot, SlotState


def host_prefix() -> str:
    """How the ids of this machine's replicas begin."""
    return f"{socket.gethostname()[:24]}-"


def wanted_revisions(snapshot: Snapshot, base: str, capacity: int, *, warm_since: float) -> list[Revision]:
    """The revisions of *base* that belong in a replica with *capacity* places, most needed first.

    Stable revisions, canaries of open rollouts and their stables, former stables whose adapter changed after
    *warm_since* (so that a rollback is a pointer flip), then the newest of the rest, which are callable by pinned name.
    """
    adapters = {adapter.name: adapter for adapter in snapshot.adapters if adapter.base == base}
    routed = {f"{rollout.adapter}@{rollout.canary}" for rollout in snapshot.rollouts}
    routed |= {f"{adapter.name}@{adapter.stable}" for adapter in adapters.values()}
    warm = {
        f"{adapter.name}@{adapter.previous_stable}"
        for adapter in adapters.values()
        if (adapter.stable_since or 0.0) >= warm_since
    }

    def need(revision: Revision) -> tuple[int, float]:
        rank = 0 if revision.served_name in routed else 1 if revision.served_name in warm else 2
        return rank, -revision.created_at

    candidates = [revision for revision in snapshot.revisions if revision.adapter in adapters]
    return sorted(candidates, key=need)[:capacity]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaIdentity:
    """What does not change about a replica."""

    id: str
    base: str
    engine: str
    capacity: int
    max_rank: int
    rollback_window_s: float
    started_at: float


class RegistryJournal:
    """`engines.replica.Journal` over the registry."""

    def __init__(self, registry: Registry, identity: ReplicaIdentity) -> None:
        self._registry = registry
        self._identity = identity

    def wanted(self) -> Mapping[str, str]:
        """Served name -> artifact digest; `OSError` when the registry does not answer."""
        identity = self._identity
        try:
            snapshot = self._registry.snapshot()
        except RegistryError as exc:
            raise OSError(f"registry: {exc}") from exc
        warm_since = self._registry.transactions.now() - identity.rollback_window_s
        revisions = wanted_revisions(snapshot, identity.base, identity.capacity, warm_since=warm_since)
        return {revision.served_name: revision.artifact for revision in revisions}

    def fetch(self, artifact: str) -> Path:
        """The artifact's folder, its bytes verified; `OSError` if they are not what they were."""
        try:
            return self._registry.artifacts.folder(artifact)
        except RegistryError as exc:
            raise OSError(str(exc)) from exc

    def report(self, report: ReplicaReport) -> None:
        """The report is the replica's row, with its heartbeat; `OSError` when the registry does not answer."""
        identity = self._identity
        slots = {
            name: Slot(served_name=name, state=SlotState.FAILED if why else SlotState.READY, message=why)
            for name, why in report.adapters.items()
        }
        slots |= {name: Slot(served_name=name, state=SlotState.LOADING) for name in report.loading}
        replica = Replica(
            id=identity.id,
            base=identity.base,
            engine=identity.engine,
            url=report.url,
            state=_STATES[report.phase],
            capacity=identity.capacity,
            max_rank=identity.max_rank,
            slots=tuple(slots[name] for name in sorted(slots)),
            message=report.message,
            started_at=identity.started_at,
            heartbeat_at=self._registry.transactions.now(),
        )
        try:
            self._registry.replicas.report(replica)
        except RegistryError as exc:
            raise OSError(f"registry: {exc}") from exc

    def leave(self) -> None:
        """The replica is gone."""
        try:
            self._registry.replicas.mark_gone(self._identity.id)
        except RegistryError as exc:
            raise OSError(f"registry: {exc}") from exc


_STATES = {phase: ReplicaState(phase.value) for phase in Phase}
