"""Whether a revision is where it belongs. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gateway.routing.placement import deciding_replicas, homes_of
from gateway.routing.sleeping import is_asleep
from registry.database import Snapshot
from registry.rollouts.rollout import Rollout
from registry.states import ReplicaState, SlotState
from registry.types import Base

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
    is_asleep: bool = False
    """No replica is there, as the pool sleeps; the revision is proven anew before the next request is answered."""

    @property
    def is_everywhere(self) -> bool:
        """True when there are replicas that the revision belongs on and all of them have it."""
        return bool(self.holders) and not self.missing


def readiness_of(snapshot: Snapshot, base: str, served_name: str) -> Readiness:
    """Return where *served_name* stands on the ready replicas of *base*."""
    ready = deciding_replicas(snapshot, base)
    slots = {replica.id: slot for replica in ready for slot in replica.slots if slot.served_name == served_name}
    holders = {name for name, slot in slots.items() if slot.state is SlotState.READY}
    failed = {name: slot for name, slot in slots.items() if slot.state is SlotState.FAILED}
    homes = homes_of(snapshot, served_name, base)
    return Readiness(
        holders=tuple(sorted(holders)),
        missing=tuple(sorted(homes - holders)),
        failures=tuple(f"{name}: {slot.message}" for name, slot in failed.items()),
        failure=MISMATCH if any(slot.reason == MISMATCH for slot in failed.values()) else LOAD_FAILED,
        is_asleep=is_asleep(snapshot, base),
    )


def why_unserved(snapshot: Snapshot, base: str) -> str | None:
    """Return why no replica will serve the base model *base*, and what to do; None where one is there, or may come."""
    made = next((each for each in snapshot.bases if each.name == base and each.is_checkpoint), None)
    served = [each.base for each in snapshot.replicas] + [each.base for each in snapshot.sleeping_pools]
    if made is None or base in served:
        return None
    return f"The checkpoint {base!r} is a whole model that no pool serves. {_how_to_serve(made)}."


def why_not_begun(snapshot: Snapshot, rollout: Rollout) -> str | None:
    """Return why no replica will load the canary of a pending rollout, and what to do; None where one may."""
    name = next(adapter.base for adapter in snapshot.adapters if adapter.name == rollout.adapter)
    takers = [each for each in snapshot.replicas if each.adapter_base == name]
    present = [each for each in takers if each.state is not ReplicaState.DRAINING]
    if not present:
        if any(pool.adapter_base == name for pool in snapshot.sleeping_pools):
            return None  # the rollout itself wakes the pool
        base = next(each for each in snapshot.bases if each.name == name)
        return (
            f"No replica serves the base model {name!r}. {_how_to_serve(base)}, unless it was started just now. The "
            f"rollout begins once a replica has loaded the canary; `lorry rollout abort {rollout.adapter}` ends it."
        )
    if any(each.state is not ReplicaState.UNHEALTHY for each in present):
        return None
    failed = "; ".join(f"{each.id} is unhealthy{each.message and f' ({each.message})'}" for each in present)
    return (
        f"No replica of the base model {name!r} answers: {failed}. Lorry starts them again, and the rollout begins "
        "once all have loaded the canary; `lorry replicas` shows their state."
    )


def _how_to_serve(base: Base) -> str:
    field = f'checkpoint = "{base.name}"' if base.is_checkpoint else f'base = "{base.path}"'
    return f"Give it a pool in the settings, [[engines.pools]] with {field}, and start Lorry again"
