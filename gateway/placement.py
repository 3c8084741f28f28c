"""Which replicas have a revision. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from registry.types import Replica, ReplicaState, SlotState


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where a revision stands on the ready replicas of its base model."""

    holders: tuple[str, ...]
    """Ids of those that answer to it."""
    missing: tuple[str, ...]
    """Ids of those that do not."""
    failures: tuple[str, ...]
    """Of the latter, those that could not load it, each with the engine's words."""

    @property
    def is_everywhere(self) -> bool:
        """True when there are ready replicas and all of them have it."""
        return bool(self.holders) and not self.missing


def placement_of(replicas: Iterable[Replica], base: str, served_name: str) -> Placement:
    """Where *served_name* stands on the ready replicas of *base*."""
    ready = [replica for replica in replicas if replica.base == base and replica.state is ReplicaState.READY]
    slots = {replica.id: slot for replica in ready for slot in replica.slots if slot.served_name == served_name}
    holders = {name for name, slot in slots.items() if slot.state is SlotState.READY}
    return Placement(
        holders=tuple(replica.id for replica in ready if replica.id in holders),
        missing=tuple(replica.id for replica in ready if replica.id not in holders),
        failures=tuple(f"{name}: {slot.message}" for name, slot in slots.items() if slot.state is SlotState.FAILED),
    )
