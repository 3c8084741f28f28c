"""A promotion is watched and taken back at most once, whoever else moves the rollout at the same time."""

from __future__ import annotations

import threading
from collections import Counter

import pytest
from starlette.testclient import TestClient

from gateway.app import build_app, build_gateway
from gateway.rollouts.controller import begin_if_loaded, promote
from gateway.settings import GatewaySettings
from registry.database import Registry
from registry.errors import RegistryError
from registry.rollouts.rollout import RolloutPlan, weighted
from registry.rollouts.rollout_state import RolloutState
from tests.clock import Clock
from tests.gateway.rollouts.judged import PASSED, WATCH, later, promoted, start
from tests.gateway.stage import WINDOW_S, bad, count, good, report, story, tick


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
    """The outcomes of acts that were begun at the same time: `done` or the error's name, sorted."""
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


@pytest.mark.long
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
        with TestClient(build_app(build_gateway(GatewaySettings(), loaded)), base_url="http://localhost") as http:
            lines = http.get("/metrics").text.splitlines()
        told = {line for line in lines if line.startswith(("gateway_rollout_moves_total", "gateway_rollout_state"))}
        assert 'gateway_rollout_moves_total{adapter="support",reason="error_rate",state="aborted"} 1.0' in told
        assert 'gateway_rollout_moves_total{adapter="support",reason="loaded",state="progressing"} 1.0' in told
        assert 'gateway_rollout_state{adapter="support",state="aborted"} 1.0' in told
        assert 'gateway_rollout_state{adapter="support",state="progressing"} 0.0' in told
        assert 'gateway_rollout_canary_weight{adapter="support"} 0.0' in lines
