"""Whether a revision is where it belongs. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gateway.routing.placement import homes_of
from registry.database import Snapshot
from registry.types import ReplicaState, SlotState

MISMATCH: Final = "fingerprint_mismatch"
"""Why a slot failed whose replica answers unlike the trainer; then also why the rollout ended."""
LOAD_FAILED: Final = "load_failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """Where a revision stands on the ready replicas of its base model."""

    holders: tuple[str, ...]
    """Ids of the replicas that answer to the revision."""
    missing: tuple[str, ...]
    """Ids of the replicas that the revision belongs on and that do not answer to it."""
    failures: tuple[str, ...]
    """Replicas that could not load or prove the revision, each with the engine's message."""
    failure: str
    """Return one word for the failures: `fingerprint_mismatch` if one of them is that, else `load_failed`."""

    @property
    def is_everywhere(self) -> bool:
        """True when there are replicas that the revision belongs on and all of them have it."""
        return bool(self.holders) and not self.missing


def readiness_of(snapshot: Snapshot, base: str, served_name: str) -> Readiness:
    """Return where *served_name* stands on the ready replicas of *base*."""
    ready = [each for each in snapshot.replicas if each.base == base and each.state is ReplicaState.READY]
    slots = {replica.id: slot for replica in ready for slot in replica.slots if slot.served_name == served_name}
    holders = {name for name, slot in slots.items() if slot.state is SlotState.READY}
    failed = {name: slot for name, slot in slots.items() if slot.state is SlotState.FAILED}
    homes = homes_of(snapshot, served_name, base)
    return Readiness(
        holders=tuple(sorted(holders)),
        missing=tuple(sorted(homes - holders)),
        failures=tuple(f"{name}: {slot.message}" for name, slot in failed.items()),
        failure=MISMATCH if any(slot.reason == MISMATCH for slot in failed.values()) else LOAD_FAILED,
    )


def why_unserved(snapshot: Snapshot, base: str) -> str | None:
    """Return why no replica will serve the base model *base*, and what to do; None where one is there, or may come."""
    made = any(each.name == base and each.is_checkpoint for each in snapshot.bases)
    if not made or any(replica.base == base for replica in snapshot.replicas):
        return None
    return (
        f"The checkpoint {base!r} is a whole model that no pool serves. Give it a pool in the settings, "
        f'[[engines.pools]] with checkpoint = "{base}", and start Lorry again.'
    )
