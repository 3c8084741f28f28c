"""Gates of rollouts: the canary is asked a suite before it takes traffic, and only its scores let it through."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gateway.rollouts.controller import reconcile
from registry.publishing.publish import publish
from registry.rollouts.gate import GatePlan
from registry.rollouts.rollout import Rollout, RolloutPlan, weighted
from registry.states import SlotState
from registry.types import RevisionDraft, Slot
from tests.clock import Clock
from tests.gateway.evaluations.answers_by_model import by_prompt, echo_suite
from tests.gateway.replica_rows import replica_row
from tests.gateway.rollouts.rollout_scene import SETTINGS, RolloutScene
from tests.waiting import wait_for

Story = dict[str, Any]


def digest_of(client: httpx2.Client, suite: Mapping[str, Any]) -> str:
    """Store the suite, by asking it of the base model."""
    created = client.post("/admin/evaluations", json={"model": "tiny", "suite": suite})
    return str(created.json()["suite_digest"])


def begin(client: httpx2.Client, suite: Mapping[str, Any], **gate: Any) -> Story:
    body = {"revision": 2, "steps": [50, 100], "judge": False, "gate": {"suite": digest_of(client, suite), **gate}}
    started = client.post("/admin/adapters/support/rollouts", json=body)
    assert started.status_code == 201, started.text
    story: Story = started.json()
    return story


def decided(scene: RolloutScene, client: httpx2.Client, rollout: Mapping[str, Any]) -> Story:
    """Return the rollout once the controller has moved it on."""

    def moved() -> bool:
        reconcile(scene.registry, SETTINGS, scene.registry.transactions.now())
        return bool(client.get(f"/admin/rollouts/{rollout['id']}").json()["state"] != "pending")

    wait_for(moved)
    story: Story = client.get(f"/admin/rollouts/{rollout['id']}").json()
    return story


def right_at(*rows: str) -> Any:
    """Script in which the canary answers rightly to these rows only, and the stable to all."""
    return by_prompt(lambda model, prompt, _body: prompt if model != "support@2" or prompt in rows else "no")


@pytest.mark.long
def test_a_canary_that_scores_enough_takes_its_first_step(scene: RolloutScene) -> None:
    scene.add_replica(right_at("1", "2", "3", "4"))
    client = scene.client()
    rollout = begin(client, echo_suite(), min=0.8, not_worse_than_stable_by=0.02)
    assert (rollout["state"], rollout["canary_weight"]) == ("pending", 0)
    story = decided(scene, client, rollout)
    assert (story["state"], story["reason"], story["canary_weight"]) == ("progressing", "gate_passed", 50)
    result = story["gate_result"]
    assert (result["canary"]["score"], result["stable"]["score"], result["difference"]["lower_bound"]) == (1, 1, 0)
    assert story["events"][-1]["evidence"]["gate"]["decision"] == "advance"


@pytest.mark.long
def test_a_canary_below_the_least_score_is_aborted_with_the_evidence(scene: RolloutScene) -> None:
    scene.add_replica(right_at("1", "2"))
    client = scene.client()
    story = decided(scene, client, begin(client, echo_suite(), min=0.8))
    assert (story["state"], story["reason"]) == ("aborted", "gate_below_min")
    assert "scores 0.500 in numbers" in story["message"], "the plan has the digest alone"
    assert (story["gate_result"]["canary"]["passed"], story["gate_result"]["stable"]) == (2, None)
    assert client.get("/admin/adapters/support").json()["stable"] == 1


@pytest.mark.long
def test_a_canary_that_may_be_worse_than_stable_by_more_than_the_margin_is_aborted(scene: RolloutScene) -> None:
    scene.add_replica(right_at("1", "2", "3"))
    client = scene.client()
    story = decided(scene, client, begin(client, echo_suite(), not_worse_than_stable_by=0.02))
    assert (story["state"], story["reason"]) == ("aborted", "gate_worse_than_stable")
    assert story["gate_result"]["difference"]["only_second"] == 1


@pytest.mark.long
def test_an_evaluation_that_fails_stops_the_rollout(scene: RolloutScene) -> None:
    scene.add_replica(by_prompt(lambda model, prompt, _body: None if model == "support@2" else prompt))
    client = scene.client()
    story = decided(scene, client, begin(client, echo_suite(), min=0.0))
    assert (story["state"], story["reason"]) == ("aborted", "gate_failed")
    assert "no answer" in story["message"]


@pytest.mark.long
def test_a_gate_goes_on_at_another_gateway_when_its_own_ends_in_the_middle(scene: RolloutScene) -> None:
    holds = [True]

    def reply(_model: str, prompt: str, _body: Mapping[str, Any]) -> str:
        if prompt == "3":
            wait_for(lambda: not holds[0])
        return prompt

    scene.add_replica(by_prompt(reply))
    first = scene.client()
    rollout = begin(first, echo_suite(), min=0.9)
    store = scene.registry.evaluations
    wait_for(lambda: [each.done for each in store.of_rollout(rollout["id"]).values()] == [3])
    second = scene.client()
    holds[0] = False
    scene.end(first)
    story = decided(scene, second, rollout)
    assert story["reason"] == "gate_passed"
    assert len(store.answers(story["gate_result"]["canary"]["evaluation"])) == 4


def test_a_gate_that_is_not_decided_in_time_stops_the_rollout(scene: RolloutScene, clock: Clock) -> None:
    holds = [True]

    def reply(model: str, prompt: str, _body: Mapping[str, Any]) -> str:
        if model == "support@2":
            wait_for(lambda: not holds[0])
        return prompt

    scene.add_replica(by_prompt(reply))
    client = scene.client()
    rollout = begin(client, echo_suite(), min=0.5, timeout_s=3600)
    clock.advance(3601)
    reconcile(scene.registry, SETTINGS, clock(), trusts_silence=False)
    story = scene.registry.rollouts.get(rollout["id"])
    holds[0] = False
    assert (str(story.state), story.reason) == ("aborted", "gate_failed")
    assert "within 3600 s" in story.message


def test_a_gate_is_skipped_by_a_person_with_a_reason_only(scene: RolloutScene) -> None:
    holds = [True]

    def reply(model: str, prompt: str, _body: Mapping[str, Any]) -> str:
        if model == "support@2":
            wait_for(lambda: not holds[0])
        return prompt

    scene.add_replica(by_prompt(reply))
    client = scene.client()
    rollout = begin(client, echo_suite(), min=0.9)
    path = f"/admin/rollouts/{rollout['id']}/promote"
    refused = client.post(path, json={})
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "gate_undecided")
    skipped = client.post(path, json={"skip_gate": "the suite asks for last year's prices"}).json()
    assert (skipped["state"], skipped["reason"], skipped["gate_result"]) == ("progressing", "gate_skipped", None)
    assert "last year" in skipped["message"]
    found = scene.registry.evaluations.of_rollout(rollout["id"])
    assert [str(each.state) for each in found.values()] == ["cancelled"]
    assert client.post(path, json={"skip_gate": "again"}).status_code == 409
    holds[0] = False


WRONG = (
    ({"suite": "builtin:core"}, "gate needs min, not_worse_than_stable_by, or both"),
    ({"suite": "builtin:cor", "min": 0.5}, "did you mean 'core'"),
    ({"suite": "builtin:core", "min": 1.5}, "gate.min: must be at most 1"),
    ({"min": 0.5}, "gate.suite: is missing"),
    ({"suite": "builtin:core", "minimum": 0.5}, "unknown field minimum"),
)


def test_what_is_wrong_with_a_gate_is_named(scene: RolloutScene) -> None:
    client = scene.client()
    for gate, says in WRONG:
        body = {"revision": 2, "steps": [50, 100], "gate": gate}
        refused = client.post("/admin/adapters/support/rollouts", json=body)
        assert refused.status_code == 400
        assert says in refused.json()["error"]["message"]


@pytest.mark.long
def test_a_first_revision_becomes_stable_only_if_its_gate_lets_it_through(
    scene: RolloutScene, make_adapter: Callable[..., Path]
) -> None:
    engine = scene.add_replica(by_prompt(lambda model, prompt, _body: "no" if model == "fresh@1" else prompt))
    client, registry = scene.client(), scene.registry
    gate = GatePlan(suite="numbers", min=0.5, digest=digest_of(client, echo_suite()))
    plan = RolloutPlan(steps=weighted(50, 100), gate=gate)

    def published(seed: int) -> Rollout:
        draft = RevisionDraft(adapter="fresh", base="tiny", owner="ann")
        revision = publish(registry, make_adapter(seed), draft, rollout=plan)
        slots = [Slot(served_name=f"fresh@{number}", state=SlotState.READY) for number in (1, 2)]
        registry.replicas.report(replica_row("r0", url=engine.url, slots=tuple(slots)))
        rollout = registry.rollouts.open_for("fresh")
        assert rollout is not None and rollout.canary == revision.number
        decided(scene, client, {"id": rollout.id})
        reconcile(registry, SETTINGS, registry.transactions.now())
        return registry.rollouts.get(rollout.id)

    first = published(3)
    assert (first.reason, registry.adapters.get("fresh").stable) == ("gate_below_min", None)
    second = published(4)
    assert (second.reason, str(second.state), registry.adapters.get("fresh").stable) == ("gate_passed", "promoted", 2)
