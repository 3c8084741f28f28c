"""Ratings reach the revision that answered, at any gateway and after a restart."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest

from gateway.edge.answer import answer_id_in
from registry.rollouts.rollout import Rollout
from registry.rollouts.tally import Side
from tests.gateway.rollouts.rollout_scene import CHAT, SETTINGS, RolloutScene, said, streamed
from tests.gateway.telemetry.scraped import without_process
from tests.stub_engine import StubHandler, by_model

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


def test_an_answer_that_is_no_evidence_is_rated_and_not_judged(scene: RolloutScene, halved: Rollout) -> None:
    client = scene.client(SLOW)
    client.post("/v1/chat/completions", json={**CHAT, "model": "support@2"})
    told = rate(client, completion_id="chatcmpl-2", score=0.25, comment="pinned")
    outside = {"rollout": None, "step": None, "side": None, "replica": "r0", "tenant": "local"}
    assert told == told | outside | {"revision": "support@2"}
    assert scene.registry.tallies.of_rollout(halved.id) == {}
    assert client.get("/admin/feedback/support@2").json()["data"] == [told]
    (total,) = client.get("/admin/feedback", params={"model": "support"}).json()["data"]
    assert total == total | {"revision": "support@2", "ratings": 1, "good": 0, "bad": 1, "mean": 0.25}
    unknown = scene.client().post("/v1/feedback", json={"completion_id": "chatcmpl-9", "score": 1})
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "not_found")
    assert "chatcmpl-9" in unknown.json()["error"]["message"]
    assert client.get("/admin/adapters/sales/feedback").status_code == 404


@pytest.mark.parametrize("streams", [True, False])
def test_a_base_models_answer_is_rated_without_any_rollout(scene: RolloutScene, streams: bool) -> None:
    scene.add_replica(streamed("yes", number=7) if streams else said("yes", number=7), loaded=(1,))
    client = scene.client(SETTINGS)
    client.post("/v1/chat/completions", json={**CHAT, "model": "tiny", "stream": streams})
    assert rate(client, completion_id="chatcmpl-7", label="good")["revision"] == "tiny"
    assert [each["revision"] for each in client.get("/admin/feedback").json()["data"]] == ["tiny"]


@pytest.mark.parametrize(
    ("beginning", "found"),
    [
        (b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk"}\n\n', "chatcmpl-1"),
        (b'data: {"choices": [{"delta": {"content": "\\"id\\": \\"x\\""}}], "id": "c-2"}\n\n', "c-2"),
        (b'event: message_start\ndata: {"type":"message_start","message":{"id":"msg_3"}}\n\n', "msg_3"),
        (b": ping\n\n", ""),
        (b'data: {"id": "' + b"x" * 300 + b'"}\n\n', ""),
    ],
)
def test_the_id_of_a_stream_is_in_its_beginning(beginning: bytes, found: str) -> None:
    assert answer_id_in(beginning) == found


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


def test_a_rating_with_its_chat_is_kept_until_a_rating_without_it(scene: RolloutScene) -> None:
    scene.add_replica(by_model(r1=said("yes", number=1)))
    client = scene.client(SLOW)
    asked, answer = CHAT["messages"], {"role": "assistant", "content": "yes"}
    completion_id = client.post("/v1/chat/completions", json={**CHAT, "model": "support@1"}).json()["id"]
    broken = client.post("/v1/feedback", json={"completion_id": completion_id, "score": 1, "messages": asked})
    error = broken.json()["error"]
    assert (broken.status_code, error["param"]) == (400, "messages")
    assert error["message"].startswith("messages has no assistant turn")
    rate(client, completion_id=completion_id, label="bad", messages=[*asked, answer])
    few = client.post("/v1/files/feedback", json={"model": "support"})
    assert (few.status_code, few.json()["error"]["param"]) == (400, "model")
    assert "the file has 1 examples; at least 10 are needed" in few.json()["error"]["message"]
    feedback = scene.registry.feedback
    expected = [{"messages": [*asked, answer], "label": False}]
    assert feedback.rated_chats("support") == feedback.rated_chats("support@1") == expected
    assert feedback.rated_chats("support", "somebody else") == []
    rate(client, completion_id=completion_id, label="good")
    assert feedback.rated_chats("support") == []


def test_ratings_with_their_chats_become_a_training_file(scene: RolloutScene) -> None:
    numbers = iter(range(1, 11))

    def answer_anew(handler: StubHandler) -> None:
        said("yes", number=next(numbers))(handler)

    scene.add_replica(answer_anew)
    client = scene.client()
    chat = [*CHAT["messages"], {"role": "assistant", "content": "yes"}]
    for at in range(10):
        made = client.post("/v1/chat/completions", json={**CHAT, "model": "support@1"}).json()
        rate(client, completion_id=made["id"], score=at / 10, messages=chat)
    file = client.post("/v1/files/feedback", json={"model": "support@1"})
    assert file.status_code == 200, file.text
    lines = client.get(f"/v1/files/{file.json()['id']}/content").text.splitlines()
    assert [json.loads(line)["label"] for line in lines] == [False] * 5 + [True] * 5
    assert scene.registry.feedback.forget_chats(3600.0) == 0
    assert scene.registry.feedback.forget_chats(-1.0) == 10
