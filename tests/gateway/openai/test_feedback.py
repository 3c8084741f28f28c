"""Ratings reach the revision that answered, at any gateway and after a restart."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from registry.rollouts.rollout import Rollout
from registry.rollouts.tally import Side
from tests.gateway.rollouts.rollout_scene import CHAT, SETTINGS, RolloutScene, said, streamed
from tests.gateway.telemetry.scraped import without_process
from tests.stub_engine import by_model

CANARY = {"x-session-id": "session-0"}
SLOW = SETTINGS.model_copy(update={"observe_flush_s": 3600.0})


@pytest.fixture
def halved(scene: RolloutScene) -> Rollout:
    scene.add_replica(by_model(r1=streamed("yes", number=1), r2=said("no", number=2)))
    return scene.start(50)


def rate(client: httpx2.Client, **body: Any) -> Any:
    told = client.post("/v1/feedback", json=body)
    assert told.status_code == 200, told.text
    return told.json()


def test_a_rating_given_at_once_is_joined_to_what_answered(scene: RolloutScene, halved: Rollout) -> None:
    client = scene.client(SLOW)
    completion_id = client.post("/v1/chat/completions", json=CHAT, headers=CANARY).json()["id"]
    told = rate(client, completion_id=completion_id, label="bad", comment="It says no.")
    about = {"revision": "support@2", "rollout": halved.id, "step": 0, "side": "canary", "replica": "r0"}
    assert told == told | about | {"score": 0.0, "completion_id": "chatcmpl-2", "comment": "It says no."}
    assert client.get("/admin/adapters/support/feedback").json()["data"] == [told]
    assert 'gateway_rollout_feedbacks_total{adapter="support",side="canary"} 1.0' in without_process(
        client.get("/metrics").text
    )
    tally = scene.counted(halved, Side.CANARY, 1)
    assert (tally.feedbacks, tally.feedback_sum) == (1, 0.0)


def test_a_rating_is_joined_at_another_gateway_and_after_a_restart(scene: RolloutScene, halved: Rollout) -> None:
    first, second = scene.client(), scene.client()
    first.post("/v1/chat/completions", json={**CHAT, "stream": True}, headers={"x-session-id": "session-3"})
    # the second hears of the answer when the first has told the registry, and waits for that
    assert rate(second, completion_id="chatcmpl-1", score=0.25)["revision"] == "support@1"
    scene.end(first)
    scene.end(second)
    assert rate(scene.client(), completion_id="chatcmpl-1", label="good")["score"] == 1.0
    assert scene.counted(halved, Side.STABLE, 1).feedbacks == 1


def test_an_answer_that_is_no_evidence_cannot_be_rated(scene: RolloutScene, halved: Rollout) -> None:
    client = scene.client()
    client.post("/v1/chat/completions", json={**CHAT, "model": "support@2"})
    told = client.post("/v1/feedback", json={"completion_id": "chatcmpl-2", "score": 1})
    assert (told.status_code, told.json()["error"]["code"]) == (404, "not_found")
    assert "chatcmpl-2" in told.json()["error"]["message"]
    assert client.get("/admin/adapters/sales/feedback").status_code == 404


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"score": 1}, "completion_id"),
        ({"completion_id": "", "score": 1}, "completion_id"),
        ({"completion_id": "c"}, "score"),
        ({"completion_id": "c", "score": 1, "label": "good"}, "score"),
        ({"completion_id": "c", "score": 1.5}, "score"),
        ({"completion_id": "c", "score": "much"}, "score"),
        ({"completion_id": "c", "label": "meh"}, "label"),
        ({"completion_id": "c", "score": 1, "comment": "x" * 4001}, "comment"),
        ({"completion_id": "c", "score": 1, "stars": 5}, "stars"),
    ],
)
def test_a_rating_that_is_none_names_the_field(scene: RolloutScene, body: dict[str, Any], param: str) -> None:
    told = scene.client().post("/v1/feedback", json=body)
    assert (told.status_code, told.json()["error"]["param"]) == (400, param)
