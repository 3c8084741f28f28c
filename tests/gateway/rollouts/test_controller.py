"""The controller moves rollouts from the first load to the last step, by the replicas in the registry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.errors import StillLoading
from gateway.rollouts.controller import begin_if_loaded, promote, reconcile
from gateway.routing.placement import homes_of, wanted_in
from registry.database import Registry
from registry.errors import IllegalMove
from registry.liveness.sleeping_pools import SleepingPool
from registry.publishing.publish import publish
from registry.rollouts.rollout import Rollout, RolloutPlan, weighted
from registry.rollouts.rollout_state import RolloutState
from registry.states import ReplicaState, SlotState
from registry.types import Base, RevisionDraft, Slot
from tests.clock import Clock
from tests.gateway.stage import HEARTBEAT_S, KNOBS, report, tick

PLAN = RolloutPlan(steps=weighted(25, 50, 100), every_s=60.0)


def start(registry: Registry, plan: RolloutPlan = PLAN) -> Rollout:
    return registry.rollouts.start("support", 2, plan, "me")


def test_the_first_revision_is_stable_once_a_replica_has_it(two_revisions: Registry) -> None:
    assert two_revisions.adapters.get("support").stable == 1


def test_a_canary_takes_no_traffic_before_every_ready_replica_has_it(two_revisions: Registry) -> None:
    rollout = start(two_revisions)
    report(two_revisions, "r1", "support@1", "support@2")
    report(two_revisions, "r2", "support@1")
    tick(two_revisions)
    assert two_revisions.rollouts.get(rollout.id).state is RolloutState.PENDING
    with pytest.raises(StillLoading, match="support@2 is not on every replica"):
        promote(two_revisions, rollout.id, "me", full=False)
    report(two_revisions, "r2", "support@1", "support@2")
    tick(two_revisions)
    assert two_revisions.rollouts.get(rollout.id).canary_weight == 25


def test_steps_advance_by_time_and_end_in_a_promotion(two_revisions: Registry, clock: Clock) -> None:
    report(two_revisions, "r1", "support@1", "support@2")
    rollout = begin_if_loaded(two_revisions, start(two_revisions))
    weights = [rollout.canary_weight]
    while not rollout.state.is_terminal:
        clock.advance(61.0)
        report(two_revisions, "r1", "support@1", "support@2")
        tick(two_revisions)
        rollout = two_revisions.rollouts.get(rollout.id)
        weights.append(rollout.canary_weight)
    assert weights == [25, 50, 0]
    assert rollout.state is RolloutState.PROMOTED
    assert two_revisions.adapters.get("support").stable == 2


def test_a_step_does_not_end_before_its_time(two_revisions: Registry, clock: Clock) -> None:
    report(two_revisions, "r1", "support@1", "support@2")
    rollout = begin_if_loaded(two_revisions, start(two_revisions))
    clock.advance(59.0)
    report(two_revisions, "r1", "support@1", "support@2")
    tick(two_revisions)
    assert two_revisions.rollouts.get(rollout.id).step == 0


def test_promote_goes_one_step_and_full_goes_all_the_way(two_revisions: Registry) -> None:
    report(two_revisions, "r1", "support@1", "support@2")
    rollout = begin_if_loaded(two_revisions, start(two_revisions))
    assert promote(two_revisions, rollout.id, "me", full=False).canary_weight == 50
    assert promote(two_revisions, rollout.id, "me", full=True).state is RolloutState.PROMOTED
    with pytest.raises(IllegalMove, match="was promoted already"):
        promote(two_revisions, rollout.id, "me", full=False)


def test_a_paused_rollout_holds_its_weight_however_long(two_revisions: Registry, clock: Clock) -> None:
    report(two_revisions, "r1", "support@1", "support@2")
    rollout = begin_if_loaded(two_revisions, start(two_revisions))
    two_revisions.rollouts.move(rollout.id, rollout.state, RolloutState.PAUSED, reason="requested")
    clock.advance(3600.0)
    report(two_revisions, "r1", "support@1", "support@2")
    tick(two_revisions)
    assert two_revisions.rollouts.get(rollout.id).canary_weight == 25


def test_a_paused_rollout_that_is_promoted_moves_on_in_one_move(two_revisions: Registry) -> None:
    report(two_revisions, "r1", "support@1", "support@2")
    rollout = begin_if_loaded(two_revisions, start(two_revisions))
    store = two_revisions.rollouts
    store.move(rollout.id, rollout.state, RolloutState.PAUSED, reason="requested")
    moved = promote(two_revisions, rollout.id, "me", full=False)
    assert (moved.state, moved.step, moved.canary_weight) == (RolloutState.PROGRESSING, 1, 50)
    assert [(event.state, event.step) for event in store.events(rollout.id)[-2:]] == [("paused", 0), ("progressing", 1)]
    store.move(rollout.id, moved.state, RolloutState.PAUSED, reason="requested")
    assert promote(two_revisions, rollout.id, "me", full=False).state is RolloutState.PROMOTED


def test_a_canary_that_cannot_be_loaded_aborts_its_rollout_saying_why(two_revisions: Registry) -> None:
    rollout = start(two_revisions)
    report(two_revisions, "r1", "support@1", failed="support@2")
    tick(two_revisions)
    ended = two_revisions.rollouts.get(rollout.id)
    assert (ended.state, ended.reason, ended.message) == (RolloutState.ABORTED, "load_failed", "r1: no such file")
    assert two_revisions.adapters.get("support").stable == 1


def test_without_a_ready_replica_a_rollout_waits(two_revisions: Registry) -> None:
    rollout = start(two_revisions)
    report(two_revisions, "r1", state=ReplicaState.UNHEALTHY)
    tick(two_revisions)
    assert two_revisions.rollouts.get(rollout.id).state is RolloutState.PENDING


def test_a_silent_replica_is_gone(two_revisions: Registry, clock: Clock) -> None:
    clock.advance(HEARTBEAT_S + 1)
    tick(two_revisions)
    assert two_revisions.snapshot().replicas == ()


def test_a_replica_that_could_not_report_is_not_gone(two_revisions: Registry, clock: Clock) -> None:
    clock.advance(HEARTBEAT_S + 1.0)
    reconcile(two_revisions, KNOBS, two_revisions.transactions.now(), trusts_silence=False)
    assert two_revisions.replicas.get("r1").state is ReplicaState.READY


def test_a_canary_that_answers_unlike_the_trainer_aborts_its_rollout_with_the_numbers(two_revisions: Registry) -> None:
    rollout = start(two_revisions)
    unlike = Slot(
        served_name="support@2",
        state=SlotState.FAILED,
        reason="fingerprint_mismatch",
        message="mean difference 0.9",
        proof={"mean_difference": 0.9},
    )
    row = two_revisions.replicas.get("r1")
    two_revisions.replicas.report(replace(row, slots=(*row.slots, unlike)))
    tick(two_revisions)
    ended = two_revisions.rollouts.get(rollout.id)
    assert (ended.state, ended.reason) == (RolloutState.ABORTED, "fingerprint_mismatch")
    assert ended.message == "r1: mean difference 0.9"
    assert two_revisions.replicas.get("r1").slots[1].proof == {"mean_difference": 0.9}


def test_where_places_are_few_a_canary_is_waited_for_only_where_it_belongs(
    two_revisions: Registry, base: Base, make_adapter: Callable[..., Path]
) -> None:
    for adapter in ("fr", "it", "en"):
        publish(two_revisions, make_adapter(), RevisionDraft(adapter=adapter, base=base.name, owner="me"))
    replicas = [f"r{number}" for number in range(1, 5)]
    for name in replicas:
        report(two_revisions, name, "support@1", capacity=3)
    rollout = start(two_revisions)
    homes = homes_of(two_revisions.snapshot(), "support@2", "tiny")
    assert len(homes) == 2
    for name in sorted(homes):
        tick(two_revisions)
        assert two_revisions.rollouts.get(rollout.id).state is RolloutState.PENDING
        report(two_revisions, name, "support@1", "support@2", capacity=3)
    tick(two_revisions)
    assert two_revisions.rollouts.get(rollout.id).state is RolloutState.PROGRESSING


def test_a_canary_that_there_is_no_place_for_waits(two_revisions: Registry) -> None:
    rollout = start(two_revisions)
    report(two_revisions, "r1", "support@1", capacity=0)
    tick(two_revisions)
    assert two_revisions.rollouts.get(rollout.id).state is RolloutState.PENDING


def test_what_is_routed_is_loaded_before_what_is_merely_there(
    two_revisions: Registry, base: Base, make_adapter: Callable[..., Path]
) -> None:
    for seed in (3, 4):
        publish(two_revisions, make_adapter(seed), RevisionDraft(adapter="support", base=base.name, owner="me"))
    start(two_revisions)
    report(two_revisions, "r1", "support@1", capacity=3)
    replica = two_revisions.replicas.get("r1")
    wanted = wanted_in(two_revisions.snapshot(), replica, warm_since=0.0)
    assert {revision.served_name for revision in wanted[:2]} == {"support@1", "support@2"}
    assert len(wanted) == 3
    assert wanted_in(two_revisions.snapshot(), replace(replica, base="another"), warm_since=0.0) == []


def test_the_former_stable_stays_loaded_for_the_rollback_window(two_revisions: Registry) -> None:
    report(two_revisions, "r1", "support@1", "support@2")
    promote(two_revisions, start(two_revisions).id, "me", full=True)
    since = two_revisions.adapters.get("support").stable_since or 0.0
    replica = two_revisions.replicas.get("r1")

    def second(warm_since: float) -> str:
        return wanted_in(two_revisions.snapshot(), replica, warm_since=warm_since)[1].served_name

    assert second(since - 1) == "support@1"


def test_a_step_ends_by_time_while_the_pool_sleeps_and_holds_while_its_replica_is_broken(
    two_revisions: Registry, clock: Clock
) -> None:
    two_revisions.sleeping_pools.enter(SleepingPool(name="night", base="tiny", engine="transformers"))
    report(two_revisions, "r1", "support@1", "support@2", pool="night")
    rollout = begin_if_loaded(two_revisions, start(two_revisions))
    clock.advance(61.0)
    report(two_revisions, "r1", state=ReplicaState.UNHEALTHY, pool="night")
    tick(two_revisions)
    assert two_revisions.rollouts.get(rollout.id).step == 0
    two_revisions.replicas.mark_gone("r1")
    tick(two_revisions)
    assert two_revisions.rollouts.get(rollout.id).step == 1


def test_a_rollout_whose_pool_sleeps_waits_to_be_proven(two_revisions: Registry, clock: Clock) -> None:
    two_revisions.sleeping_pools.enter(SleepingPool(name="night", base="tiny", engine="transformers"))
    two_revisions.replicas.mark_gone("r1")
    rollout = start(two_revisions)
    clock.advance(3600.0)
    tick(two_revisions)
    assert two_revisions.rollouts.get(rollout.id).state is RolloutState.PENDING
    report(two_revisions, "r2", "support@1", "support@2", pool="night")
    tick(two_revisions)
    assert two_revisions.rollouts.get(rollout.id).canary_weight == 25
