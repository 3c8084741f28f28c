"""Judged rollouts of `support@2` on one replica, and a controller whose time a test moves."""

from __future__ import annotations

from gateway.rollouts.controller import begin_if_loaded
from registry.database import Registry
from registry.rollouts.guardrails import GuardrailPlan
from registry.rollouts.rollout import Rollout, RolloutPlan, weighted
from registry.rollouts.rollout_state import RolloutState
from tests.clock import Clock
from tests.gateway.stage import count, good, report, tick

JUDGED = RolloutPlan(steps=weighted(5, 25, 100), guardrails=GuardrailPlan())
WATCH = len(JUDGED.steps)
PASSED = [("pending", 0, "requested"), ("progressing", 0, "loaded"), ("progressing", 1, "no_violation")]


def start(registry: Registry, plan: RolloutPlan = JUDGED) -> Rollout:
    return begin_if_loaded(registry, registry.rollouts.start("support", 2, plan, "me"))


def later(registry: Registry, clock: Clock, seconds: float = 2.0) -> None:
    """Time passes, replicas are alive, the controller looks."""
    clock.advance(seconds)
    report(registry, "r1", "support@1", "support@2")
    tick(registry)


def promoted(registry: Registry, clock: Clock, plan: RolloutPlan = JUDGED) -> Rollout:
    """A rollout that was promoted on its evidence."""
    rollout = start(registry, plan)
    for step in range(len(plan.steps) - 1):
        count(registry, rollout, step, good(1000), good(1000))
    while not (rollout := registry.rollouts.get(rollout.id)).state.is_terminal:
        later(registry, clock)
    assert rollout.state is RolloutState.PROMOTED
    return rollout
