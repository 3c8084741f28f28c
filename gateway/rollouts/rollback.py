"""The way back by hand: abort the open rollout, or make the former stable revision stable again.

Two people on call press at the same time, or one after the other. A revision that was taken back is never stable again,
and nothing is taken back twice, unless the request names the revision.
"""

from __future__ import annotations

from typing import Final

from gateway.rollouts.controller import begin_if_loaded
from registry.database import Registry
from registry.errors import NothingToRollBack, NotServable
from registry.rollouts.rollout import Rollout, RolloutPlan, utc, weighted
from registry.rollouts.rollout_state import RolloutState
from registry.types import Adapter

BEGUN: Final = "rollback"
"""Reason of a rollout that a rollback began, until the controller moves it."""
BY_HAND: Final = "rolled_back"
"""Reason of a rollout that a rollback aborted."""


def roll_back(registry: Registry, name: str, to: int | None, actor: str) -> Rollout:
    """Abort the open rollout of adapter *name*, or begin a rollout to revision *to*, by default the former stable.

    Raises `NothingToRollBack` if the last change was taken back already and *to* is None, `NotFound`, and what starting
    a rollout raises.
    """
    adapter = registry.adapters.get(name)
    opened = registry.rollouts.open_for(name)
    if opened is None:
        target = _former_stable(registry, adapter) if to is None else to
    else:
        if opened.reason == BEGUN and to in (None, opened.canary):
            served = f"{name}@{opened.canary}"
            raise NothingToRollBack(
                f"the way back to {served} is under way: rollout {opened.id}, begun at {utc(opened.created_at)} "
                f"by {opened.actor}"
            )
        aborted = registry.rollouts.move(opened.id, opened.state, RolloutState.ABORTED, reason=BY_HAND, actor=actor)
        if to is None or to == adapter.stable:
            return aborted
        target = to
    plan = RolloutPlan(steps=weighted(100))
    return begin_if_loaded(registry, registry.rollouts.start(name, target, plan, actor, reason=BEGUN))


def _former_stable(registry: Registry, adapter: Adapter) -> int:
    """Return the revision that was stable before, unless it was taken back or a canary was taken back by hand."""
    rollouts = registry.rollouts.list(adapter.name, limit=1000)
    promoted = (each for each in rollouts if each.state is RolloutState.PROMOTED and each.canary == adapter.stable)
    last, made_stable = next(iter(rollouts), None), next(promoted, None)
    if last is not None and last.reason == BY_HAND:
        raise NothingToRollBack(_taken_back(last.canary, last.stable, last, last.actor))
    if made_stable is not None and _goes_back(made_stable):
        # The controller may have moved it; the first event names who began it.
        begun_by = registry.rollouts.events(made_stable.id)[0].actor
        raise NothingToRollBack(_taken_back(made_stable.stable, made_stable.canary, made_stable, begun_by))
    if adapter.previous_stable is None:
        raise NotServable(f"adapter {adapter.name!r} has no earlier stable revision; name one with `to`")
    return adapter.previous_stable


def _goes_back(rollout: Rollout) -> bool:
    """Whether a rollout leads to an earlier revision than the stable one."""
    return rollout.stable is not None and rollout.canary < rollout.stable


def _taken_back(bad: int | None, serves: int | None, by: Rollout, actor: str) -> str:
    return (
        f"{by.adapter}@{bad} was taken back already, at {utc(by.finished_at or by.created_at)} by {actor}; "
        f"{by.adapter}@{serves} serves since. To go to another revision, name it: `to`, or `--to` of the command"
    )
