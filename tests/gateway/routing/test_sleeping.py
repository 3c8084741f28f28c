"""A pool without a replica wakes for what needs one, stays awake as long as something does, and hides nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.routing.readiness import readiness_of, why_not_begun, why_unserved
from gateway.routing.route_table import build_table
from gateway.routing.sleeping import (
    FIRST_REVISION_S,
    asleep_in,
    is_asleep,
    is_to_be_called,
    pool_to_wake,
    reasons_for,
    replicas_known,
    used_at,
)
from registry.database import Snapshot
from registry.liveness.sleeping_pools import SleepingPool
from registry.rollouts.rollout import Rollout, RolloutPlan, weighted
from registry.rollouts.rollout_state import RolloutState
from registry.states import ReplicaState, SlotState
from registry.types import Base, Replica, Slot, Use
from tests.gateway.replica_rows import replica_row
from tests.gateway.routing.test_placement import adapter, revision, snapshot

POOL = SleepingPool(name="night", base="tiny", engine="transformers")
EIGHT = SleepingPool(name="eight", base="tiny-w8a8-1", adapters_of="tiny", engine="transformers")
BASES = tuple(
    Base(name=name, path=f"/{name}", digest=name, licence="mit", created_at=1.0, parent=parent)
    for name, parent in (("tiny", None), ("other", None), ("tiny-w8a8-1", "tiny"))
)
NOW = 10_000.0
STATES = (ReplicaState.STARTING, ReplicaState.READY, ReplicaState.UNHEALTHY)


def at(*replicas: Replica, pools: tuple[SleepingPool, ...] = (POOL,), uses: tuple[Use, ...] = ()) -> Snapshot:
    """`support@1` is stable; *replicas* are there, and *pools* may sleep."""
    found = snapshot([adapter("support", stable=1)], [revision("support")], list(replicas))
    return replace(found, bases=BASES, sleeping_pools=pools, uses=uses)


def replica(pool: str = "night", state: ReplicaState = ReplicaState.READY, base: str = "tiny", *loaded: str) -> Replica:
    slots = tuple(Slot(served_name=name, state=SlotState.READY) for name in loaded)
    return replica_row(f"{pool}-1", pool=pool, state=state, base=base, slots=slots)


def awaited(name: str) -> Use:
    return Use(served_name=name, used_at=NOW - 1, in_flight=1, awaited_since=NOW - 1)


def woken_by(found: Snapshot, served_name: str) -> str | None:
    pool = pool_to_wake(build_table(found), served_name)
    return None if pool is None else pool.name


@pytest.mark.parametrize("name", ["tiny", "support@1"])
def test_a_request_wakes_the_pool_of_its_base_until_that_has_a_ready_replica(name: str) -> None:
    for state in ReplicaState:
        expected = None if state is ReplicaState.READY else "night"
        assert woken_by(at(replica(state=state)), name) == expected
    assert woken_by(at(), name) == "night"
    assert woken_by(at(pools=()), name) is None


def test_a_request_for_another_base_wakes_no_pool() -> None:
    assert woken_by(at(), "other") is None
    assert woken_by(at(), "nobody") is None


def test_a_pool_on_quantized_weights_wakes_for_the_adapters_and_not_for_the_base() -> None:
    found = at(pools=(EIGHT,))
    assert woken_by(found, "support@1") == "eight"
    assert woken_by(found, "tiny") is None
    assert woken_by(found, "tiny-w8a8-1") == "eight"


def test_what_another_pool_serves_wakes_none() -> None:
    elsewhere = replica("day")
    assert woken_by(at(elsewhere), "tiny") is None
    assert woken_by(at(elsewhere), "support@1") is None  # that replica loads the adapter
    assert not is_to_be_called(at(elsewhere, uses=(awaited("support@1"),)), POOL, NOW)


@pytest.mark.parametrize("name", ["tiny", "support@1"])
def test_the_controller_calls_a_pool_that_is_awaited_and_has_no_replica_at_work(name: str) -> None:
    uses = (awaited(name),)
    assert is_to_be_called(at(uses=uses), POOL, NOW)
    assert is_to_be_called(at(replica(state=ReplicaState.DRAINING), uses=uses), POOL, NOW)
    for state in STATES:
        assert not is_to_be_called(at(replica(state=state), uses=uses), POOL, NOW)
    assert not is_to_be_called(at(), POOL, NOW)
    assert not is_to_be_called(at(uses=(awaited("other"),)), POOL, NOW)


def test_a_use_that_nobody_waits_for_any_more_wakes_nothing() -> None:
    assert not is_to_be_called(at(uses=(replace(awaited("tiny"), awaited_since=None),)), POOL, NOW)


def rollout(state: RolloutState) -> Rollout:
    return Rollout(
        id="ro-1",
        adapter="support",
        canary=2,
        stable=1,
        plan=RolloutPlan(steps=weighted(50, 100)),
        step=0,
        state=state,
        reason="",
        message="",
        actor="me",
        created_at=0.0,
        step_since=0.0,
        finished_at=None,
        evidence=None,
        judged_at=None,
    )


def test_a_canary_that_is_to_be_proven_wakes_its_pool_and_one_that_takes_traffic_does_not() -> None:
    pending = replace(at(), rollouts=(rollout(RolloutState.PENDING),))
    assert is_to_be_called(pending, POOL, NOW)
    assert next(reasons_for(replace(pending, replicas=(replica(),)), POOL, NOW)) == "support@2 is to be proven"
    assert not is_to_be_called(replace(at(), rollouts=(rollout(RolloutState.PROGRESSING),)), POOL, NOW)


def test_a_pending_rollout_is_not_reported_as_without_a_replica() -> None:
    pending = replace(at(), rollouts=(rollout(RolloutState.PENDING),))
    assert why_not_begun(pending, pending.rollouts[0]) is None
    assert why_not_begun(replace(pending, sleeping_pools=()), pending.rollouts[0]) is not None


def test_a_first_revision_wakes_its_pool_once_to_become_stable() -> None:
    young = snapshot([adapter("support", stable=None)], [revision("support", created_at=NOW)], [])
    young = replace(young, bases=BASES, sleeping_pools=(POOL,))
    assert is_to_be_called(young, POOL, NOW + 1)
    assert not is_to_be_called(young, POOL, NOW + FIRST_REVISION_S)
    refused = Slot(served_name="support@1", state=SlotState.FAILED, message="no such file")
    failed = replica_row("night-1", pool="night", slots=(refused,))
    assert list(reasons_for(replace(young, replicas=(failed,)), POOL, NOW + 1)) == []


def test_a_pool_is_asleep_only_without_any_replica_and_its_rollouts_only_without_one_at_work() -> None:
    assert asleep_in(at()) == [POOL]
    assert is_asleep(at(), "tiny")
    draining = at(replica(state=ReplicaState.DRAINING))
    assert asleep_in(draining) == []
    assert is_asleep(draining, "tiny")
    for state in STATES:
        assert not is_asleep(at(replica(state=state)), "tiny")
    assert not is_asleep(at(pools=()), "tiny")
    assert readiness_of(at(), "tiny", "support@1").is_asleep


def test_the_last_use_of_a_pool_is_that_of_anything_it_serves() -> None:
    uses = (
        Use(served_name="tiny", used_at=5.0, in_flight=1),
        Use(served_name="support@1", used_at=7.0, in_flight=1),
        Use(served_name="other", used_at=9.0, in_flight=1),
    )
    assert used_at(at(uses=uses), POOL) == 7.0
    assert used_at(at(), POOL) == 0.0


def test_a_checkpoint_whose_pool_sleeps_is_not_called_unserved() -> None:
    assert why_unserved(at(), "tiny-w8a8-1") is not None
    assert why_unserved(at(pools=(EIGHT,)), "tiny-w8a8-1") is None


def test_replicas_of_an_adapter_are_not_counted_while_its_pool_sleeps() -> None:
    for found, is_known in ((at(), False), (at(replica()), True), (at(pools=()), True), (at(replica("day")), True)):
        table = build_table(found)
        assert replicas_known(table, table.routes["support"]) is is_known
