"""An operator tries the canary before any traffic, by a header or by a forced key."""

from __future__ import annotations

import httpx2
import pytest

from registry.keys import KeyDraft, Scope
from registry.rollouts.rollout_state import RolloutState
from tests.gateway.rollouts.rollout_scene import CHAT, SETTINGS, RolloutScene, said

FORCED = "/admin/adapters/support/forced"


def revision(client: httpx2.Client, session: str = "session-3", **headers: str) -> str:
    """Who answers a conversation; the hash puts `session-3` on stable's side at half the weight."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    told = client.post("/v1/chat/completions", json=CHAT, headers={"x-session-id": session, **sent})
    return told.headers.get("x-lorry-revision", str(told.status_code))


def test_a_header_reaches_a_canary_that_takes_no_traffic_yet_where_it_is_loaded(scene: RolloutScene) -> None:
    scene.add_replica(said("from r0"), loaded=(1,))
    impatient = SETTINGS.model_copy(update={"request_timeout_s": 0.3})
    assert revision(scene.client(impatient), x_lorry_side="canary") == "support@1"
    rollout = scene.start(50, to=None)
    # The wait for a replica and the request itself end at the same time, whichever is noticed first.
    assert revision(scene.client(impatient), x_lorry_side="canary") in ("503", "504")
    scene.add_replica(said("from r1"))
    ready = scene.client()
    told = ready.post("/v1/chat/completions", json=CHAT, headers={"x-lorry-side": "canary"})
    assert (told.headers["x-lorry-revision"], told.headers["x-lorry-replica"]) == ("support@2", "r1")
    assert revision(ready) == "support@1"
    scene.registry.rollouts.move(rollout.id, rollout.state, RolloutState.ABORTED, reason="test")
    assert revision(scene.client(), x_lorry_side="canary") == "support@1"


def test_a_header_of_another_value_is_refused(scene: RolloutScene) -> None:
    told = scene.client().post("/v1/chat/completions", json=CHAT, headers={"x-lorry-side": "Canary"})
    assert (told.status_code, told.json()["error"]["param"]) == (400, "x-lorry-side")


def test_a_held_key_stays_on_its_side_until_it_is_let_go(scene: RolloutScene) -> None:
    scene.add_replica(said("yes"))
    scene.start(50)
    client = scene.client()
    assert [revision(client, session) for session in ("session-3", "session-0")] == ["support@1", "support@2"]
    for session, side in (("session-3", "canary"), ("session-0", "stable")):
        told = client.put(FORCED, json={"sticky_key": session, "side": side}, headers={"x-lorry-actor": "bob"})
        assert (told.status_code, told.json()["side"], told.json()["actor"]) == (200, side, "bob")
    assert [revision(client, session) for session in ("session-3", "session-0")] == ["support@2", "support@1"]
    assert revision(client, "session-3", x_lorry_side="stable") == "support@1"
    listed = client.get(FORCED).json()["data"]
    assert [(held["sticky_key"], held["side"]) for held in listed] == [("session-0", "stable"), ("session-3", "canary")]
    for session in ("session-3", "session-0"):
        assert client.delete(FORCED, params={"sticky_key": session}).json()["deleted"] is True
    assert [revision(client, session) for session in ("session-3", "session-0")] == ["support@1", "support@2"]
    assert client.delete(FORCED, params={"sticky_key": "session-3"}).status_code == 404


def test_a_held_key_reaches_the_canary_before_any_traffic(scene: RolloutScene) -> None:
    scene.add_replica(said("yes"))
    client = scene.client()
    client.put(FORCED, json={"sticky_key": "session-3", "side": "canary"})
    assert revision(client) == "support@1"
    rollout = scene.start(50, to=None)
    ready = scene.client()
    assert [revision(ready), revision(ready, "session-0")] == ["support@2", "support@1"]
    assert not scene.cells(rollout)


def test_a_held_api_key_tries_the_canary_in_all_its_conversations(scene: RolloutScene) -> None:
    scene.add_replica(said("yes"))
    scene.start(50, to=None)
    keys = {
        name: scene.registry.keys.create(KeyDraft(name=name, scopes=frozenset(Scope)), actor="ann").secret
        for name in ("tester", "chat")
    }
    client = scene.client()
    bearer = {name: f"Bearer {secret}" for name, secret in keys.items()}
    body = {"sticky_key": "api-key:tester", "side": "canary"}
    assert client.put(FORCED, json=body, headers={"authorization": bearer["chat"]}).status_code == 200
    for session in ("session-0", "session-3"):
        assert revision(client, session, authorization=bearer["tester"]) == "support@2"
        assert revision(client, session, authorization=bearer["chat"]) == "support@1"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"side": "canary"}, "sticky_key"),
        ({"sticky_key": "", "side": "canary"}, "sticky_key"),
        ({"sticky_key": "k", "side": "shadow_canary"}, "side"),
        ({"sticky_key": "k", "side": "canary", "until": 1}, "until"),
    ],
)
def test_what_cannot_be_held_names_the_field(scene: RolloutScene, body: dict[str, object], param: str) -> None:
    client = scene.client()
    told = client.put(FORCED, json=body)
    assert (told.status_code, told.json()["error"]["param"]) == (400, param)
    assert client.put("/admin/adapters/sales/forced", json={"sticky_key": "k", "side": "canary"}).status_code == 404
