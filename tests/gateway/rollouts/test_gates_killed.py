"""A gate whose gateway was killed in the middle, and controllers that ask for it twice: both decide once."""

from __future__ import annotations

import pytest

from gateway.rollouts.controller import reconcile
from registry.evaluations.evaluation import EvaluationAnswer
from registry.rollouts.gate import GatePlan
from registry.rollouts.rollout import RolloutPlan, weighted
from registry.rollouts.rollout_state import RolloutState
from tests.clock import Clock
from tests.gateway.evaluations.answers_by_model import by_prompt, echo_suite
from tests.gateway.rollouts.rollout_scene import SETTINGS, RolloutScene
from tests.waiting import wait_for

pytestmark = pytest.mark.long


def test_another_gateway_asks_only_the_rows_that_a_killed_one_left(scene: RolloutScene, clock: Clock) -> None:
    engine = scene.add_replica(by_prompt(lambda _model, prompt, _body: prompt))
    registry, store = scene.registry, scene.registry.evaluations
    first = scene.client()
    with_suite = first.post("/admin/evaluations", json={"model": "tiny", "suite": echo_suite()}).json()
    wait_for(lambda: store.get(with_suite["id"]).state.has_ended)
    scene.end(first)
    gate = GatePlan(suite="numbers", min=0.9, digest=with_suite["suite_digest"])
    rollout = registry.rollouts.start("support", 2, RolloutPlan(steps=weighted(50, 100), gate=gate), "ann")
    for _ in range(2):  # a controller that is killed after the first decides nothing twice
        reconcile(registry, SETTINGS, clock(), trusts_silence=False)
    (evaluation,) = store.of_rollout(rollout.id).values()
    hold = store.claim(evaluation, "gateway-killed")
    assert hold is not None
    store.record(hold, [EvaluationAnswer(row=1, row_id="1", answer="1", score=1.0, has_passed=True)])
    asked = len(engine.bodies)
    scene.client()

    def decided() -> bool:
        clock.advance(1.0)  # the lease of a gateway that is gone is over after a while in which nobody renewed it
        reconcile(registry, SETTINGS, clock(), trusts_silence=False)
        return registry.rollouts.get(rollout.id).state is not RolloutState.PENDING

    wait_for(decided)
    assert registry.rollouts.get(rollout.id).reason == "gate_passed"
    assert len(engine.bodies) - asked == 3
    assert store.get(evaluation.id).attempt == 2
