"""Good canaries advance by themselves, bad ones are taken back, and every move records its evidence."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace

import pytest
from starlette.testclient import TestClient

from gateway.app import build_app, build_gateway
from gateway.rollouts.controller import begin_if_loaded, promote
from gateway.settings import GatewaySettings
from registry.database import Registry
from registry.errors import RegistryError
from registry.rollouts.guardrails import GuardrailPlan
from registry.rollouts.rollout import Rollout, RolloutPlan, RolloutState, plan_from, weighted
from registry.rollouts.tally import Tally
from registry.types import ReplicaState
from tests.clock import Clock
from tests.gateway.stage import HEARTBEAT_S, WINDOW_S, bad, count, count_copies, good, report, story, tick

JUDGED = RolloutPlan(steps=weighted(5, 25, 100), guardrails=GuardrailPlan())
WATCH = len(JUDGED.steps)
PASSED = [("pending", 0, "requested"), ("progressing", 0, "loaded"), ("progressing", 1, "no_violation")]


@pytest.fixture
def loaded(two_revisions: Registry) -> Registry:
    """Both revisions are on the only replica."""
    report(two_revisions, "r1", "support@1", "support@2")
    return two_revisions


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


def test_a_promotion_that_turns_out_bad_is_taken_back_once_and_not_tried_again(loaded: Registry, clock: Clock) -> None:
    rollout = promoted(loaded, clock)
    count(loaded, rollout, WATCH, good(500))
    later(loaded, clock)
    assert loaded.adapters.get("support").stable == 2
    count(loaded, rollout, WATCH, bad(400))
    later(loaded, clock)
    assert loaded.adapters.get("support").stable == 1
    back, before = loaded.rollouts.list("support")
    assert before.id == rollout.id
    assert story(loaded, back.id) == [("pending", 0, "watch_error_rate"), ("promoted", 0, "loaded")]
    reasons = loaded.rollouts.events(back.id)[0]
    assert reasons.evidence is not None
    assert (reasons.evidence["decision"], reasons.actor) == ("abort", "controller")
    assert "after the promotion" in reasons.message
    for _ in range(5):
        later(loaded, clock)
    assert len(loaded.rollouts.list("support")) == 2
    assert loaded.adapters.get("support").stable == 1


def test_a_way_back_that_a_person_ended_is_not_begun_again(loaded: Registry, clock: Clock) -> None:
    rollout = promoted(loaded, clock)
    count(loaded, rollout, WATCH, bad(400))
    clock.advance(2.0)
    report(loaded, "r1", "support@2")
    tick(loaded)
    back = loaded.rollouts.list("support")[0]
    assert (back.state, back.canary) == (RolloutState.PENDING, 1)
    loaded.rollouts.move(back.id, back.state, RolloutState.ABORTED, reason="requested", actor="ann")
    for _ in range(5):
        later(loaded, clock)
    assert len(loaded.rollouts.list("support")) == 2
    assert loaded.adapters.get("support").stable == 2


def test_what_is_bad_after_the_window_or_was_not_judged_stays(loaded: Registry, clock: Clock) -> None:
    rollout = promoted(loaded, clock)
    clock.advance(WINDOW_S)
    count(loaded, rollout, WATCH, bad(400))
    later(loaded, clock)
    assert loaded.adapters.get("support").stable == 2
    plan = RolloutPlan(steps=weighted(100))
    by_hand = begin_if_loaded(loaded, loaded.rollouts.start("support", 1, plan, "me", reason="rollback"))
    count(loaded, by_hand, 1, bad(400), good(1000))
    later(loaded, clock)
    assert loaded.adapters.get("support").stable == 1


def test_a_promotion_whose_former_stable_is_retired_stays_and_is_told_as_bad(loaded: Registry, clock: Clock) -> None:
    rollout = promoted(loaded, clock)
    loaded.adapters.retire("support", 1, "ann")
    count(loaded, rollout, WATCH, bad(400))
    later(loaded, clock)
    judged = loaded.rollouts.get(rollout.id)
    assert judged.evidence is not None
    assert (judged.state, judged.evidence["decision"]) == (RolloutState.PROMOTED, "abort")
    assert len(loaded.rollouts.list("support")) == 1


def test_a_rollback_during_a_rollout_holds_against_a_controller_that_saw_it_open(
    loaded: Registry, clock: Clock
) -> None:
    rollout = start(loaded)
    count(loaded, rollout, 0, good(1000), good(1000))
    seen = loaded.rollouts.get(rollout.id)
    loaded.rollouts.move(rollout.id, seen.state, RolloutState.ABORTED, reason="rolled_back", actor="ann")
    assert not loaded.rollouts.record_verdict(seen, {"decision": "advance"})
    with pytest.raises(RegistryError, match="aborted"):
        loaded.rollouts.advance(rollout.id, seen.step, reason="no_violation", actor="controller")
    later(loaded, clock)
    assert story(loaded, rollout.id) == [*PASSED[:2], ("aborted", 0, "rolled_back")]


def at_once(*acts: object) -> list[str]:
    """What the acts came to that were begun at the same time: `done` or the error's name, sorted."""
    came_to: list[str] = []
    gate = threading.Barrier(len(acts))

    def run(act: object) -> None:
        gate.wait()
        try:
            act()  # type: ignore[operator]
        except RegistryError as exc:
            came_to.append(type(exc).__name__)
        else:
            came_to.append("done")

    threads = [threading.Thread(target=run, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(came_to)


def test_two_operators_and_two_controllers_at_once_leave_one_story(loaded: Registry, clock: Clock) -> None:
    for _ in range(10):
        rollout = start(loaded)
        count(loaded, rollout, 0, good(1000), good(1000))
        clock.advance(2.0)
        report(loaded, "r1", "support@1", "support@2")
        came_to = at_once(
            lambda: tick(loaded),
            lambda: tick(loaded),
            lambda rollout=rollout: promote(loaded, rollout.id, "ann", full=False),
            lambda rollout=rollout: loaded.rollouts.move(
                rollout.id, rollout.state, RolloutState.ABORTED, reason="requested", actor="bob"
            ),
        )
        assert came_to.count("done") >= 3
        assert set(came_to) <= {"done", "StaleState", "IllegalMove"}
        moves = story(loaded, rollout.id)
        assert Counter((state, step) for state, step, _ in moves).most_common(1)[0][1] == 1
        assert loaded.rollouts.get(rollout.id).state in (RolloutState.ABORTED, RolloutState.PROMOTED)
        if loaded.adapters.get("support").stable == 2:
            begin_if_loaded(loaded, loaded.rollouts.start("support", 1, RolloutPlan(steps=weighted(100)), "me"))


def test_controllers_beside_each_other_make_every_move_once(loaded: Registry, clock: Clock) -> None:
    rollout = start(loaded)
    for step in range(2):
        count(loaded, rollout, step, good(1000), good(1000))
    count(loaded, rollout, WATCH, bad(400))
    for _ in range(6):
        clock.advance(2.0)
        report(loaded, "r1", "support@1", "support@2")
        at_once(*[lambda: tick(loaded)] * 4)
    assert story(loaded, rollout.id) == [*PASSED, ("promoted", 1, "no_violation")]
    back, before = loaded.rollouts.list("support")
    assert before.id == rollout.id
    assert story(loaded, back.id) == [("pending", 0, "watch_error_rate"), ("promoted", 0, "loaded")]


def test_metrics_show_every_move_the_same_at_every_gateway(loaded: Registry, clock: Clock) -> None:
    rollout = start(loaded)
    count(loaded, rollout, 0, bad(60), good(1000))
    later(loaded, clock)
    for _ in range(2):
        with TestClient(build_app(build_gateway(GatewaySettings(), loaded))) as http:
            lines = http.get("/metrics").text.splitlines()
        told = {line for line in lines if line.startswith(("gateway_rollout_moves_total", "gateway_rollout_state"))}
        assert 'gateway_rollout_moves_total{adapter="support",reason="error_rate",state="aborted"} 1.0' in told
        assert 'gateway_rollout_moves_total{adapter="support",reason="loaded",state="progressing"} 1.0' in told
        assert 'gateway_rollout_state{adapter="support",state="aborted"} 1.0' in told
        assert 'gateway_rollout_state{adapter="support",state="progressing"} 0.0' in told
        assert 'gateway_rollout_canary_weight{adapter="support"} 0.0' in lines
