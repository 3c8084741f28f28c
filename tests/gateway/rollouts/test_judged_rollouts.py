"""Good canaries advance by themselves, bad ones are taken back, and every move records its evidence."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.rollouts.controller import promote
from registry.database import Registry
from registry.rollouts.guardrails import GuardrailPlan
from registry.rollouts.rollout import RolloutPlan, plan_from, weighted
from registry.rollouts.rollout_state import RolloutState
from registry.rollouts.tally import Tally
from registry.states import ReplicaState
from tests.clock import Clock
from tests.gateway.rollouts.judged import PASSED, later, promoted, start
from tests.gateway.stage import HEARTBEAT_S, bad, count, count_copies, good, report, story, tick


def test_a_good_canary_goes_to_100_by_itself_and_every_move_has_its_evidence(loaded: Registry, clock: Clock) -> None:
    rollout = promoted(loaded, clock)
    assert story(loaded, rollout.id) == [*PASSED, ("promoted", 1, "no_violation")]
    verdicts = [event.evidence for event in loaded.rollouts.events(rollout.id)]
    assert verdicts[:2] == [None, None]
    for step, verdict in enumerate(verdicts[2:]):
        assert verdict is not None
        assert (verdict["decision"], verdict["step"]) == ("advance", step)
        assert verdict["evidence"][0]["canary_samples"] == 1000 * (step + 1)
    assert loaded.adapters.get("support").stable == 2


def test_a_bad_canary_is_aborted_by_its_guardrail_with_the_numbers(loaded: Registry, clock: Clock) -> None:
    rollout = start(loaded)
    count(loaded, rollout, 0, bad(60), good(1000))
    later(loaded, clock)
    ended = loaded.rollouts.get(rollout.id)
    assert (ended.state, ended.reason, ended.canary_weight) == (RolloutState.ABORTED, "error_rate", 0)
    assert "60 canary requests" in ended.message
    event = loaded.rollouts.events(rollout.id)[-1]
    assert event.evidence == ended.evidence
    assert event.evidence is not None
    assert event.evidence["evidence"][0]["is_violated"]
    assert loaded.adapters.get("support").stable == 1


def test_when_traffic_stops_it_holds_however_long(loaded: Registry, clock: Clock) -> None:
    rollout = start(loaded)
    count(loaded, rollout, 0, good(20), good(400))
    for _ in range(20):
        later(loaded, clock, 3600.0)
    held = loaded.rollouts.get(rollout.id)
    assert (held.state, held.step, held.judged_at) == (RolloutState.PROGRESSING, 0, clock.at)
    assert held.evidence is not None
    assert (held.evidence["decision"], held.evidence["reason"]) == ("hold", "too_few_samples")
    assert len(story(loaded, rollout.id)) == 2


def test_a_judged_step_lasts_its_time_though_the_samples_are_there(loaded: Registry, clock: Clock) -> None:
    rollout = start(loaded, RolloutPlan(steps=weighted(25, 100), every_s=60.0, guardrails=GuardrailPlan()))
    count(loaded, rollout, 0, good(1000), good(1000))
    later(loaded, clock, 59.0)
    held = loaded.rollouts.get(rollout.id)
    assert held.evidence is not None
    assert (held.state, held.evidence["reason"]) == (RolloutState.PROGRESSING, "step_time")
    later(loaded, clock)
    assert loaded.rollouts.get(rollout.id).state is RolloutState.PROMOTED


def test_it_is_judged_once_a_second(loaded: Registry, clock: Clock) -> None:
    rollout = start(loaded)
    later(loaded, clock)
    judged_at = loaded.rollouts.get(rollout.id).judged_at
    count(loaded, rollout, 0, bad(60), good(1000))
    later(loaded, clock, 0.9)
    assert loaded.rollouts.get(rollout.id).judged_at == judged_at
    later(loaded, clock, 0.2)
    assert loaded.rollouts.get(rollout.id).state is RolloutState.ABORTED


def test_a_paused_rollout_keeps_its_evidence_and_waits_for_a_person(loaded: Registry, clock: Clock) -> None:
    rollout = start(loaded)
    loaded.rollouts.move(rollout.id, rollout.state, RolloutState.PAUSED, reason="requested", actor="ann")
    count(loaded, rollout, 0, good(1000), good(1000))
    later(loaded, clock)
    held = loaded.rollouts.get(rollout.id)
    assert held.evidence is not None
    assert (held.state, held.step, held.evidence["reason"]) == (RolloutState.PAUSED, 0, "paused")
    count(loaded, rollout, 0, bad(60), good(1000))
    later(loaded, clock)
    held = loaded.rollouts.get(rollout.id)
    assert held.evidence is not None
    assert (held.state, held.evidence["decision"]) == (RolloutState.PAUSED, "abort")
    loaded.rollouts.move(rollout.id, held.state, RolloutState.PROGRESSING, reason="requested", actor="ann")
    later(loaded, clock)
    assert loaded.rollouts.get(rollout.id).state is RolloutState.ABORTED


def test_shadow_steps_come_first_and_give_the_canary_no_conversation(loaded: Registry) -> None:
    plan = plan_from({"steps": ["shadow:10", 25, 100], "shadow_judge": "tiny", "guardrails": {}})
    rollout = start(loaded, plan)
    assert (rollout.canary_weight, rollout.shadow_percent, rollout.shadow_judge) == (0, 10, "tiny")
    rollout = promote(loaded, rollout.id, "me", full=False)
    assert (rollout.canary_weight, rollout.shadow_percent) == (25, 0)
    assert promote(loaded, rollout.id, "me", full=False).state is RolloutState.PROMOTED


def test_a_shadow_step_is_judged_by_its_copies_alone(loaded: Registry, clock: Clock) -> None:
    plan = plan_from({"steps": ["shadow:10", 25, 100], "guardrails": {}})
    rollout = start(loaded, plan)
    count(loaded, rollout, 0, Tally(), bad(5000))
    later(loaded, clock)
    assert loaded.rollouts.get(rollout.id).step == 0
    copies = replace(good(200), output_tokens=4_000, comparisons=40, win_sum=22.0)
    count_copies(loaded, rollout, 0, copies, replace(good(200), output_tokens=6_000))
    later(loaded, clock)
    known = loaded.rollouts.get(rollout.id).evidence
    assert known is not None
    assert known["wins"] == {"comparisons": 40, "win_rate": 0.55}
    assert known["lengths"] == {"canary": 20.0, "stable": 30.0}
    assert (story(loaded, rollout.id)[-1], loaded.rollouts.get(rollout.id).canary_weight) == (PASSED[-1], 25)
    loaded.rollouts.move(rollout.id, RolloutState.PROGRESSING, RolloutState.ABORTED, reason="requested")
    rollout = start(loaded, plan)
    count_copies(loaded, rollout, 0, bad(100), good(100))
    later(loaded, clock)
    assert loaded.rollouts.get(rollout.id).reason == "error_rate"


def test_a_new_replica_without_the_canary_does_not_stop_it(loaded: Registry, clock: Clock) -> None:
    rollout = start(loaded)
    report(loaded, "r2", "support@1")
    count(loaded, rollout, 0, good(1000), good(1000))
    later(loaded, clock)
    assert loaded.rollouts.get(rollout.id).canary_weight == 25


def test_a_replica_that_cannot_load_the_canary_later_holds_it_and_says_which(loaded: Registry, clock: Clock) -> None:
    rollout = start(loaded)
    count(loaded, rollout, 0, good(1000), good(1000))
    report(loaded, "r2", "support@1", failed="support@2")
    later(loaded, clock)
    held = loaded.rollouts.get(rollout.id)
    assert held.evidence is not None
    assert (held.step, held.evidence["message"]) == (0, "r2: no such file")
    report(loaded, "r2", "support@1", "support@2")
    later(loaded, clock)
    assert loaded.rollouts.get(rollout.id).step == 1


@pytest.mark.parametrize("guardrails", [None, GuardrailPlan()])
def test_without_any_replica_that_has_the_canary_it_holds(
    loaded: Registry, clock: Clock, guardrails: GuardrailPlan | None
) -> None:
    rollout = start(loaded, RolloutPlan(steps=weighted(5, 100), every_s=1.0, guardrails=guardrails))
    count(loaded, rollout, 0, good(1000), good(1000))
    clock.advance(2.0)
    report(loaded, "r1", state=ReplicaState.UNHEALTHY)
    tick(loaded)
    clock.advance(HEARTBEAT_S + 1)
    tick(loaded)
    assert story(loaded, rollout.id) == PASSED[:2]
    later(loaded, clock)
    assert loaded.rollouts.get(rollout.id).state is RolloutState.PROMOTED


def test_a_canary_that_no_replica_can_load_any_more_is_aborted(loaded: Registry, clock: Clock) -> None:
    rollout = start(loaded)
    clock.advance(2.0)
    report(loaded, "r1", "support@1", failed="support@2")
    tick(loaded)
    assert loaded.rollouts.get(rollout.id).reason == "load_failed"
