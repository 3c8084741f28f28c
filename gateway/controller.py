"""The reconcile loop: one idempotent step brings rollouts, replicas and leases nearer to what they should be.

Two controllers at once do no harm: every move is compare-and-set, and the loser finds it done at its next look.
"""

from __future__ import annotations

import logging

from gateway.errors import StillLoading
from gateway.standing import standing_of
from registry.database import Registry, Snapshot
from registry.errors import IllegalMove, StaleState
from registry.rollout import Rollout, RolloutState

log = logging.getLogger(__name__)


def reconcile(registry: Registry, now: float, heartbeat_timeout_s: float) -> None:
    """One step: drop silent replicas, requeue jobs of dead workers, give new adapters their stable, move rollouts."""
    registry.replicas.expire(heartbeat_timeout_s)
    registry.jobs.expire_leases()
    registry.uses.forget_old()
    snapshot = registry.snapshot()
    for adapter in snapshot.adapters:
        first = min((r.number for r in snapshot.revisions if r.adapter == adapter.name), default=None)
        if adapter.stable is not None or first is None:
            continue
        if standing_of(snapshot, adapter.base, f"{adapter.name}@{first}").is_everywhere:
            registry.adapters.set_first_stable(adapter.name, first, reason="first_revision")
    for rollout in snapshot.rollouts:
        try:
            _step(registry, snapshot, rollout, now)
        except StaleState:
            log.info("rollout was moved by someone else", extra={"rollout_id": rollout.id})


def _step(registry: Registry, snapshot: Snapshot, rollout: Rollout, now: float) -> None:
    if rollout.state is RolloutState.PENDING:
        _begin(registry, snapshot, rollout)
    elif rollout.state is RolloutState.PROGRESSING:
        every_s = rollout.plan.every_s
        if rollout.canary_weight == 100 or (every_s is not None and now - rollout.step_since >= every_s):
            _go_on(registry, rollout, reason="step_time_over", actor="controller")


def _begin(registry: Registry, snapshot: Snapshot, rollout: Rollout) -> Rollout:
    """Give a pending canary its first weight if every replica has it; abort if one cannot load it."""
    served_name = f"{rollout.adapter}@{rollout.canary}"
    base = next(adapter.base for adapter in snapshot.adapters if adapter.name == rollout.adapter)
    standing = standing_of(snapshot, base, served_name)
    move = registry.rollouts.move
    if standing.failures:
        message = "; ".join(standing.failures)
        return move(rollout.id, rollout.state, RolloutState.ABORTED, reason=standing.reason, message=message)
    if not standing.is_everywhere:
        return rollout
    to = RolloutState.PROMOTED if rollout.plan.steps[0] == 100 else RolloutState.PROGRESSING
    return move(rollout.id, rollout.state, to, reason="loaded", message="on every replica that it belongs on")


def _go_on(registry: Registry, rollout: Rollout, *, reason: str, actor: str) -> Rollout:
    """The next step; the canary becomes stable where that is 100."""
    following = rollout.plan.steps[rollout.step + 1 :]
    if following and following[0] < 100:
        return registry.rollouts.advance(rollout.id, rollout.step, reason=reason, actor=actor)
    return registry.rollouts.move(rollout.id, rollout.state, RolloutState.PROMOTED, reason=reason, actor=actor)


def settle(registry: Registry, rollout: Rollout) -> Rollout:
    """The rollout after what can happen at once has happened: a canary that is loaded everywhere begins now."""
    if rollout.state is not RolloutState.PENDING:
        return rollout
    try:
        return _begin(registry, registry.snapshot(), rollout)
    except StaleState:
        return registry.rollouts.get(rollout.id)


def promote(registry: Registry, rollout_id: str, actor: str, *, full: bool) -> Rollout:
    """Go to the next step by hand, or with *full* make the canary stable.

    `StillLoading` while a replica lacks the canary; `IllegalMove` when the rollout has ended.
    """
    rollout = settle(registry, registry.rollouts.get(rollout_id))
    if rollout.state.is_terminal:
        raise IllegalMove(f"rollout {rollout_id} has ended: it is {rollout.state}")
    if rollout.state is RolloutState.PENDING:
        raise StillLoading(f"{rollout.adapter}@{rollout.canary} is not on every replica yet; try again in a moment")
    if full:
        return registry.rollouts.move(rollout.id, rollout.state, RolloutState.PROMOTED, reason="requested", actor=actor)
    if rollout.state is RolloutState.PAUSED:
        rollout = registry.rollouts.move(
            rollout.id, rollout.state, RolloutState.PROGRESSING, reason="requested", actor=actor
        )
    return _go_on(registry, rollout, reason="requested", actor=actor)
