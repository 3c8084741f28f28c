"""A registry with the rows that replicas and gateways would write: loaded adapters and counts of a rollout."""

from __future__ import annotations

from gateway.rollouts.controller import reconcile
from gateway.settings import GatewaySettings
from registry.database import Registry
from registry.rollouts.rollout import Rollout
from registry.rollouts.tally import Cell, Side, Tally
from registry.states import ReplicaState, SlotState
from registry.types import Slot
from tests.gateway.replica_rows import replica_row

HEARTBEAT_S = 10.0
WINDOW_S = 3600.0
KNOBS = GatewaySettings(heartbeat_timeout_s=HEARTBEAT_S, rollback_window_s=WINDOW_S)


def report(
    registry: Registry,
    replica: str,
    *loaded: str,
    base: str = "tiny",
    failed: str = "",
    state: ReplicaState = ReplicaState.READY,
    capacity: int = 8,
    pool: str = "",
) -> None:
    """Report that the replica has *loaded* these adapters and *failed* to load that one."""
    slots = [Slot(served_name=name, state=SlotState.READY) for name in loaded]
    if failed:
        slots.append(Slot(served_name=failed, state=SlotState.FAILED, message="no such file"))
    row = replica_row(replica, base=base, state=state, capacity=capacity, pool=pool, slots=tuple(slots))
    registry.replicas.report(row)


def tick(registry: Registry) -> None:
    """Run one step of the controller."""
    reconcile(registry, KNOBS, registry.transactions.now())


def good(requests: int) -> Tally:
    """So many requests that were answered well."""
    return Tally(requests=requests, answers=requests)


def bad(requests: int) -> Tally:
    """So many requests, of which every second failed."""
    return Tally(requests=requests, answers=requests - requests // 2, errors={"broken": requests // 2})


def count(registry: Registry, rollout: Rollout, step: int, canary: Tally, stable: Tally | None = None) -> None:
    """Store what a gateway counted at *step*."""
    sides = {Side.CANARY: canary} | ({} if stable is None else {Side.STABLE: stable})
    cells = {Cell(rollout_id=rollout.id, step=step, side=side, replica="r1"): tally for side, tally in sides.items()}
    registry.tallies.put("gateway-1", cells)


def count_copies(registry: Registry, rollout: Rollout, step: int, canary: Tally, stable: Tally) -> None:
    """Store what a gateway counted of copies at a shadow *step*, and of their originals."""
    sides = {Side.SHADOW_CANARY: canary, Side.SHADOW_STABLE: stable}
    cells = {Cell(rollout_id=rollout.id, step=step, side=side, replica="r1"): tally for side, tally in sides.items()}
    registry.tallies.put("gateway-1", cells)


def story(registry: Registry, rollout_id: str) -> list[tuple[str, int, str]]:
    """State, step and reason of every move."""
    return [(str(event.state), event.step, event.reason) for event in registry.rollouts.events(rollout_id)]
