"""Evaluations at a gateway before a scripted engine: what a client of the API sees of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import httpx2
import pytest

from registry.states import RevisionState
from tests.gateway.evaluations.answers_by_model import by_prompt, echo_suite
from tests.gateway.rollouts.rollout_scene import RolloutScene
from tests.waiting import wait_for

pytestmark = pytest.mark.long


def ended(client: httpx2.Client, evaluation: Mapping[str, Any]) -> dict[str, Any]:
    path = f"/admin/evaluations/{evaluation['id']}"
    wait_for(lambda: client.get(path).json()["state"] not in ("queued", "running"))
    found: dict[str, Any] = client.get(path).json()
    return found


def run(client: httpx2.Client, model: str, suite: Any, **fields: Any) -> dict[str, Any]:
    created = client.post("/admin/evaluations", json={"model": model, "suite": suite, **fields})
    assert created.status_code == 201, created.text
    return ended(client, created.json())


def test_a_suite_is_asked_of_the_pinned_stable_and_every_answer_is_kept_with_its_score(scene: RolloutScene) -> None:
    engine = scene.add_replica(by_prompt(lambda _model, prompt, _body: "1" if prompt in "12" else prompt))
    client = scene.client()
    found = run(client, "support", echo_suite())
    assert (found["state"], found["model"]["served_name"]) == ("completed", "support@1")
    overall = found["scores"]["overall"]
    assert (overall["score"], overall["passed"], overall["rows"], overall["method"]) == (0.75, 3, 4, "wilson")
    assert found["scores"]["tags"]["odd"]["score"] == 1.0
    answers = client.get(f"/admin/evaluations/{found['id']}/answers").json()["data"]
    assert [(each["prompt"], each["answer"], each["passed"]) for each in answers] == [
        ("1", "1", True),
        ("2", "1", False),
        ("3", "3", True),
        ("4", "4", True),
    ]
    assert all(b'"temperature":0' in body.replace(b" ", b"") for body in engine.bodies)
    assert {each["id"] for each in client.get("/admin/evaluations", params={"model": "support@1"}).json()["data"]} == {
        found["id"]
    }


def test_a_row_without_an_answer_fails_the_evaluation_which_is_resumed_where_it_was(scene: RolloutScene) -> None:
    refused = {"3"}
    engine = scene.add_replica(by_prompt(lambda _model, prompt, _body: None if prompt in refused else prompt))
    client = scene.client()
    found = run(client, "support@2", echo_suite())
    assert (found["state"], found["scores"], found["done"]) == ("failed", None, 3)
    assert found["error"]["code"] == "rows_unanswered"
    assert "1 of 4 rows" in found["error"]["message"] and "too long" in found["error"]["message"]
    refused.clear()
    asked = len(engine.bodies)
    assert client.post(f"/admin/evaluations/{found['id']}/resume").status_code == 200
    again = ended(client, found)
    assert (again["state"], again["scores"]["overall"]["score"], len(engine.bodies) - asked) == ("completed", 1.0, 1)


def test_an_evaluation_fails_when_its_model_is_retired_meanwhile(scene: RolloutScene) -> None:
    def reply(_model: str, prompt: str, _body: Mapping[str, Any]) -> str:
        if prompt == "2":
            scene.registry.adapters.retire("support", 2, "ann", may_be_last=True)
        return prompt

    scene.add_replica(by_prompt(reply))
    client = scene.client()
    found = run(client, "support@2", echo_suite(), concurrency=1)
    assert (found["state"], found["error"]["code"]) == ("failed", "model_changed")
    assert scene.registry.adapters.revision("support", 2).state is RevisionState.RETIRED


def test_a_judge_is_asked_in_both_orders_with_a_schema_and_its_verdict_is_the_score(scene: RolloutScene) -> None:
    def reply(_model: str, prompt: str, body: Mapping[str, Any]) -> str:
        if "response_format" not in body:
            return "good"
        first = prompt.partition("[answer A]\n")[2].partition("\n")[0]
        return '{"verdict": "A"}' if first == "good" else '{"verdict": "B"}'

    engine = scene.add_replica(by_prompt(reply))
    rows = [{"prompt": "hi", "check": {"kind": "pairwise", "model": "tiny", "reference": "bad"}}]
    found = run(scene.client(), "support", {"name": "judged", "rows": rows})
    assert found["scores"]["overall"]["score"] == 1.0
    assert found["judges"]["tiny"]["served_name"] == "tiny"
    assert len(engine.bodies) == 3


def test_a_judge_that_keeps_to_no_verdict_fails_the_evaluation(scene: RolloutScene) -> None:
    scene.add_replica(by_prompt(lambda _model, _prompt, _body: "I like it"))
    rows = [{"prompt": "hi", "check": {"kind": "judge", "model": "tiny", "rubric": "is kind"}}]
    found = run(scene.client(), "support", {"name": "judged", "rows": rows})
    assert (found["state"], found["error"]["code"]) == ("failed", "rows_unanswered")
    assert "gave no verdict" in found["error"]["message"]


def test_two_evaluations_of_a_suite_are_compared_and_a_revision_stands_beside_its_stable(scene: RolloutScene) -> None:
    def reply(model: str, prompt: str, _body: Mapping[str, Any]) -> str:
        return prompt if model == "support@2" or prompt != "2" else "no"

    scene.add_replica(by_prompt(reply))
    client = scene.client()
    first, second = run(client, "support", echo_suite()), run(client, "support@2", echo_suite())
    compared = client.post("/admin/evaluations/compare", json={"first": "support@2", "second": first["id"]}).json()
    assert (compared["difference"], compared["only_first"], compared["p_passed"]) == (0.25, ["2"], 1.0)
    assert compared["low"] <= compared["difference"] <= compared["high"]
    assert second["beside_stable"]["difference"] == 0.25
    other = run(client, "support@2", echo_suite(), limit=2)
    refused = client.post("/admin/evaluations/compare", json={"first": other["id"], "second": first["id"]})
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "not_comparable")


def test_the_report_stands_alone_and_reads_no_answer_as_markup(scene: RolloutScene) -> None:
    hostile = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
    scene.add_replica(by_prompt(lambda _model, prompt, _body: f"{prompt}{hostile}"))
    client = scene.client()
    run(client, "support", echo_suite())
    found = run(client, "support@2", echo_suite())
    page = client.get(f"/admin/evaluations/{found['id']}/report")
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert "<img" not in page.text and page.text.count("<script") == 1
    assert "<svg" in page.text and "Beside support@1" in page.text
    assert re.findall(r"(?:src|href)=", page.text.replace("img src=x", "")) == []


WRONG = (
    ({"model": "nope", "suite": "builtin:core"}, "does not exist"),
    ({"model": "support", "suite": "builtin:cor"}, "did you mean 'core'"),
    ({"model": "support", "suite": "eval.jsonl"}, "none of builtin:NAME"),
    ({"model": "support", "suite": "0" * 64}, "no suite with the digest"),
    ({"model": "support", "suite": {"name": "a", "rows": [{"prompt": "x"}]}}, "row 1: check: is missing"),
    ({"model": "support", "suite": echo_suite(), "limit": 0}, "limit: must be at least 1"),
    ({"model": "support", "suite": echo_suite(), "suit": 1}, "unknown field suit"),
)


def test_what_is_wrong_with_a_request_is_named(scene: RolloutScene) -> None:
    client = scene.client()
    for body, says in WRONG:
        refused = client.post("/admin/evaluations", json=body)
        assert refused.status_code in (400, 404)
        assert says in refused.json()["error"]["message"]
