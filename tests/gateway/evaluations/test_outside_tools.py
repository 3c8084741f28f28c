"""Evaluations that a client runs with an outside tool, as it reports them."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from tests.gateway.evaluations.answers_by_model import by_prompt, echo_suite
from tests.gateway.rollouts.rollout_scene import RolloutScene

pytestmark = pytest.mark.long

PATH = "/admin/evaluations"
BEGIN = {"model": "support", "tool": "lm-eval", "tasks": ["capitals"]}


def reported(client: httpx2.Client, *scores: float) -> dict[str, Any]:
    begun: dict[str, Any] = client.post(f"{PATH}/outside", json=BEGIN).json()
    answers = [
        {"row_id": f"capitals/{at}", "prompt": "p", "answer": "a", "score": score, "passed": score == 1, "tags": ["c"]}
        for at, score in enumerate(scores)
    ]
    client.post(f"{PATH}/{begun['id']}/outside/answers", json={"first_row": 1, "answers": answers})
    return begun


def test_reported_answers_get_scores_with_intervals_and_a_digest_by_which_they_compare(scene: RolloutScene) -> None:
    scene.add_replica(by_prompt(lambda _model, prompt, _body: prompt))
    client = scene.client()
    begun = reported(client, 1, 0, 1)
    assert (begun["state"], begun["model"]["served_name"]) == ("running", "support@1")
    end = {"rows": 3, "metrics": {"capitals": {"acc": 0.66}}}
    done = client.post(f"{PATH}/{begun['id']}/outside/end", json=end).json()
    assert (done["state"], done["scores"]["overall"]["passed"], done["detail"]["metrics"]) == (
        "completed",
        2,
        end["metrics"],
    )
    other = reported(client, 1, 1, 1)
    client.post(f"{PATH}/{other['id']}/outside/end", json={"rows": 3})
    compared = client.post(f"{PATH}/compare", json={"first": other["id"], "second": begun["id"]})
    assert compared.json()["only_first"] == ["capitals/1"]


def test_missing_rows_a_failure_and_a_foreign_evaluation_are_no_score(scene: RolloutScene) -> None:
    scene.add_replica(by_prompt(lambda _model, prompt, _body: prompt))
    client = scene.client()
    begun = reported(client, 1, 0)
    refused = client.post(f"{PATH}/{begun['id']}/outside/end", json={"rows": 3})
    assert refused.status_code == 409
    failed = client.post(f"{PATH}/{begun['id']}/outside/end", json={"failure": "hub unreachable"}).json()
    assert (failed["state"], failed["scores"], failed["error"]["code"]) == ("failed", None, "tool_failed")
    assert client.post(f"{PATH}/{begun['id']}/resume").status_code == 409
    ours = client.post(PATH, json={"model": "support", "suite": echo_suite()}).json()
    assert client.post(f"{PATH}/{ours['id']}/outside/end", json={"rows": 1}).status_code == 400
