"""Where a revision stands on the replicas that it belongs on. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gateway.placement import homes_of
from registry.database import Snapshot
from registry.types import ReplicaState, Slot, SlotState

MISMATCH: Final = "fingerprint_mismatch"
"""Why a slot failed whose replica answers unlike the trainer; then also why the rollout ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a revision stands on the ready replicas of its base model that placement puts it on."""

    holders: tuple[str, ...]
    """Ids of those that answer to it, proven."""
    missing: tuple[str, ...]
    """Ids of those that do not."""
    failures: tuple[str, ...]
    """Of all ready replicas, those that could not load or prove it, each with why."""
    reason: str
    """One word for the failures, empty without."""

    @property
    def is_everywhere(self) -> bool:
        """True when there are such replicas and all of them have it."""
        return bool(self.holders) and not self.missing


def standing_of(snapshot: Snapshot, base: str, served_name: str) -> Standing:
    """Where *served_name*, which callers are routed to or soon may be, stands."""
    ready = [replica for replica in snapshot.replicas if replica.base == base and replica.state is ReplicaState.READY]
    slots = {replica.id: slot for replica in ready for slot in replica.slots if slot.served_name == served_name}
    homes = sorted(homes_of(snapshot, served_name, base))
    holders = {name for name, slot in slots.items() if slot.state is SlotState.READY}
    failed = {name: slot for name, slot in slots.items() if slot.state is SlotState.FAILED}
    return Standing(
        holders=tuple(name for name in homes if name in holders),
        missing=tuple(name for name in homes if name not in holders),
        failures=tuple(f"{name}: {slot.message}" for name, slot in failed.items()),
        reason=_reason(list(failed.values())),
    )


def _reason(failed: list[Slot]) -> str:
    if not failed:
        return ""
    return MISMATCH if any(slot.reason == MISMATCH for slot in failed) else "load_failed"
