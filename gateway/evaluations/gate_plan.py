"""The gate of a plan, checked and pinned: a suite that changes later changes no rollout."""

from __future__ import annotations

from dataclasses import replace

from gateway.evaluations.suites import find_suite, judges_for, keep_suite
from gateway.keys.caller import Caller
from gateway.routing.routing import RouteTable
from registry.database import Registry
from registry.rollouts.rollout import RolloutPlan


def pinned_plan(registry: Registry, caller: Caller, table: RouteTable, plan: RolloutPlan) -> RolloutPlan:
    """Return *plan* whose gate has the digest of its suite, which is stored. Raises `InvalidRequest`."""
    if plan.gate is None:
        return plan
    suite = find_suite(registry, caller, plan.gate.suite, "gate.suite")
    judges_for(registry, caller, table, suite)  # the caller may ask them, and they are there
    keep_suite(registry, suite, caller.tenant)
    return replace(plan, gate=replace(plan.gate, digest=suite.digest))
