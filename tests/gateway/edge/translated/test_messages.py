"""Anthropic's Messages, answered by an engine that knows chats alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest

from gateway.settings import GatewaySettings
from registry.database import Registry
from registry.keys import KeyDraft, KeyLimits, Scope
from registry.publishing.publish import publish
from registry.rollouts.tally import Side
from registry.states import SlotState
from registry.types import Base, RevisionDraft, Slot
from tests.gateway.replica_rows import replica_row
from tests.gateway.rollouts.rollout_scene import RolloutScene
from tests.gateway.served import ServedGateway
from tests.stub_engine import StubEngine, answer, stream, stream_then_drop
from tests.waiting import wait_for

Json = dict[str, Any]
BODY: Json = {"model": "support", "max_tokens": 8, "messages": [{"role": "user", "content": "Where is my teapot?"}]}
USAGE: Json = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}


def chat(**choice: Any) -> bytes:
    said = {"index": 0, "message": {"role": "assistant", "content": "Here."}, "finish_reason": "stop"} | choice
    return orjson.dumps({"id": "chatcmpl-1", "model": "support@1", "choices": [said], "usage": USAGE})


def chunk(delta: Json, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + orjson.dumps({"id": "chatcmpl-1", "model": "support@1", "choices": [choice]}) + b"\n\n"


LAST = b"data: " + orjson.dumps({"model": "support@1", "choices": [], "usage": USAGE}) + b"\n\ndata: [DONE]\n\n"


@pytest.fixture
def engine() -> Iterator[StubEngine]:
    started = StubEngine(answer(200, chat()))
    yield started
    started.close()


@pytest.fixture
def served(
    sqlite_registry: Registry, base: Base, engine: StubEngine, make_adapter: Callable[..., Path]
) -> Iterator[ServedGateway]:
    """A gateway with one replica, on which `support@1` is stable."""
    sqlite_registry.bases.enter(base)
    publish(sqlite_registry, make_adapter(1), RevisionDraft(adapter="support", base=base.name, owner="me"))
    sqlite_registry.adapters.set_first_stable("support", 1, "first_revision")
    sqlite_registry.replicas.report(
        replica_row(
            "r1",
            url=engine.url,
            slots=(Slot(served_name="support@1", state=SlotState.READY),),
            paths=("/v1/chat/completions", "/tokenize"),
        )
    )
    with ServedGateway(GatewaySettings(replica_wait_s=20.0, route_refresh_s=0.05), sqlite_registry) as gateway:
        yield gateway


def test_a_message_is_a_chat_with_the_adapter_that_it_names(served: ServedGateway, engine: StubEngine) -> None:
    told = served.client.post("/v1/messages?beta=true", json=BODY, headers={"anthropic-version": "2023-06-01"})
    assert (told.status_code, told.headers["x-lorry-revision"]) == (200, "support@1")
    assert told.headers["request-id"] == told.headers["x-request-id"]
    assert (told.json()["type"], told.json()["model"]) == ("message", "support@1")
    assert told.json()["content"] == [{"type": "text", "text": "Here."}]
    assert told.json()["usage"]["input_tokens"] == 9
    assert engine.paths == ["/v1/chat/completions"]
    assert orjson.loads(engine.bodies[0]) == BODY | {"model": "support@1"}
    metrics = served.client.get("/metrics").text.splitlines()
    assert [line.rpartition(" ")[2] for line in metrics if "gateway_prompt_tokens_total{" in line] == ["9.0"]


def test_a_stream_comes_in_anthropic_s_events(served: ServedGateway, engine: StubEngine) -> None:
    pieces = chunk({"role": "assistant"}), chunk({"content": "He"}), chunk({"content": "re."}, "stop")
    engine.scripts[:] = [stream(*pieces, LAST)]
    told = served.client.post("/v1/messages", json=BODY | {"stream": True})
    assert told.headers["content-type"].startswith("text/event-stream")
    names = [line.removeprefix("event: ") for line in told.text.splitlines() if line.startswith("event: ")]
    assert names == [
        *("message_start", "ping", "content_block_start", "content_block_delta", "content_block_delta"),
        *("content_block_stop", "message_delta", "message_stop"),
    ]
    assert told.text.endswith('data: {"type":"message_stop"}\n\n')


def test_a_stream_whose_replica_is_lost_ends_with_an_error_event(served: ServedGateway, engine: StubEngine) -> None:
    engine.scripts[:] = [stream_then_drop(chunk({"role": "assistant"}), chunk({"content": "He"}))]
    told = served.client.post("/v1/messages", json=BODY | {"stream": True})
    *_, name, event, _, _ = told.text.split("\n")
    assert name == "event: error"
    assert orjson.loads(event.removeprefix("data: "))["error"]["type"] == "api_error"


def test_tokens_are_counted_by_the_engine_s_tokenizer(served: ServedGateway, engine: StubEngine) -> None:
    engine.scripts[:] = [answer(200, b'{"count": 12, "tokens": [], "max_model_len": 64}')]
    told = served.client.post("/v1/messages/count_tokens", json=BODY)
    assert (told.status_code, told.json()) == (200, {"input_tokens": 12})
    assert engine.paths == ["/tokenize"]
    assert orjson.loads(engine.bodies[0]) == {"model": "support@1", "messages": BODY["messages"]}


def test_an_answer_may_be_rated_by_the_id_that_the_client_saw(served: ServedGateway) -> None:
    message_id = served.client.post("/v1/messages", json=BODY).json()["id"]
    assert message_id.startswith("msg_")
    rated = served.client.post("/v1/feedback", json={"completion_id": message_id, "score": 1})
    assert rated.status_code < 300, rated.text


def error_of(told: httpx2.Response) -> Json:
    body: Json = told.json()
    assert body["type"] == "error"
    assert body["request_id"] == told.headers["request-id"] == told.headers["x-request-id"]
    found: Json = body["error"]
    return found


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "kind"),
    [
        ("POST", "/v1/messages", b"{", 400, "invalid_request_error"),
        ("POST", "/v1/messages", b"[]", 400, "invalid_request_error"),
        ("POST", "/v1/messages", orjson.dumps(BODY | {"n": 2}), 400, "invalid_request_error"),
        ("POST", "/v1/messages", orjson.dumps(BODY | {"model": "no"}), 404, "not_found_error"),
        ("POST", "/v1/messages/count_tokens", b"{}", 400, "invalid_request_error"),
        ("GET", "/v1/messages", b"", 405, "invalid_request_error"),
        ("POST", "/v1/messages/batches", b"{}", 404, "not_found_error"),
        ("GET", "/v1/messages/batches/b_1", b"", 404, "not_found_error"),
        ("POST", "/v1/messages/msg_1", b"{}", 404, "not_found_error"),
    ],
)
def test_every_fault_has_anthropic_s_form(
    served: ServedGateway, method: str, path: str, content: bytes, status: int, kind: str
) -> None:
    headers = {"content-type": "application/json"}
    told = served.client.request(method, path, content=content, headers=headers)
    assert (told.status_code, error_of(told)["type"]) == (status, kind)


def test_a_body_above_the_limit_is_refused_in_that_form(sqlite_registry: Registry, base: Base) -> None:
    sqlite_registry.bases.enter(base)
    with ServedGateway(GatewaySettings(max_body_bytes=50), sqlite_registry) as served:
        told = served.client.post("/v1/messages", json=BODY)
        assert (told.status_code, error_of(told)["type"]) == (413, "request_too_large")


def test_a_full_queue_is_overload_and_an_error_of_the_engine_has_the_client_s_names(
    served: ServedGateway, engine: StubEngine
) -> None:
    full = b'{"error": {"message": "full", "type": "rate_limit_error", "param": null, "code": "overloaded"}}'
    engine.scripts[:] = [answer(429, full)]
    told = served.client.post("/v1/messages", json=BODY)
    assert (told.status_code, error_of(told)["type"]) == (529, "overloaded_error")
    wrong = b'{"error": {"message": "stop must have at most 4 entries", "param": "stop", "code": null}}'
    engine.scripts[:] = [answer(400, wrong)]
    error = error_of(served.client.post("/v1/messages", json=BODY))
    assert error["message"] == "stop_sequences must have at most 4 entries"


def test_keys_are_sent_in_either_header_and_their_faults_have_that_form(
    served: ServedGateway, sqlite_registry: Registry
) -> None:
    scopes, limits = frozenset({Scope.INFERENCE}), KeyLimits(requests_per_minute=1)
    sqlite_registry.keys.create(KeyDraft(name="root", scopes=frozenset(Scope)), actor="ann")
    secret = sqlite_registry.keys.create(KeyDraft(name="app", scopes=scopes, limits=limits), actor="ann").secret
    other = sqlite_registry.keys.create(KeyDraft(name="job", scopes=frozenset({Scope.TRAINING})), actor="ann").secret
    wait_for(lambda: served.client.post("/v1/messages", json=BODY, headers={"x-api-key": other}).status_code == 403)
    assert error_of(served.client.post("/v1/messages", json=BODY))["type"] == "authentication_error"
    assert error_of(served.client.post("/v1/messages/batches", json=BODY))["type"] == "authentication_error"
    refused = served.client.post("/v1/messages", json=BODY, headers={"x-api-key": other})
    assert (refused.status_code, error_of(refused)["type"]) == (403, "permission_error")
    assert served.client.post("/v1/messages", json=BODY, headers={"x-api-key": secret}).status_code == 200
    limited = served.client.post("/v1/messages", json=BODY, headers={"authorization": f"Bearer {secret}"})
    assert (limited.status_code, error_of(limited)["type"]) == (429, "rate_limit_error")
    assert int(limited.headers["retry-after"]) > 0


def test_a_client_of_anthropic_s_reads_models_and_faults_elsewhere_in_its_form(served: ServedGateway) -> None:
    headers = {"anthropic-version": "2023-06-01"}
    page = served.client.get("/v1/models", params={"limit": 1}, headers=headers).json()
    assert (page["has_more"], page["last_id"], page["data"][0]["type"]) == (True, "tiny", "model")
    rest = served.client.get("/v1/models", params={"after_id": "tiny"}, headers=headers).json()
    assert [model["id"] for model in rest["data"]][:2] == ["support", "support@1"]
    back = served.client.get("/v1/models", params={"before_id": "support@1", "limit": 1}, headers=headers).json()
    assert ([model["id"] for model in back["data"]], back["has_more"]) == (["support"], True)
    assert served.client.get("/v1/models/support", headers=headers).json()["display_name"] == "support"
    for query in ({"limit": "0"}, {"limit": "x"}, {"after_id": "no"}):
        wrong = served.client.get("/v1/models", params=query, headers=headers)
        assert (wrong.status_code, error_of(wrong)["type"]) == (400, "invalid_request_error")
    told = served.client.get("/v1/models/no", headers=headers)
    assert (told.status_code, error_of(told)["type"]) == (404, "not_found_error")
    assert "code" in served.client.get("/v1/models/no").json()["error"]


def test_messages_are_evidence_for_a_rollout_and_a_user_stays_on_one_side(scene: RolloutScene) -> None:
    scene.add_replica(answer(200, chat()))
    rollout = scene.start(50)
    client = scene.client()

    def side_of(user: int) -> str:
        told = client.post("/v1/messages", json=BODY | {"metadata": {"user_id": f"u{user}"}})
        assert told.status_code == 200
        return told.headers["x-lorry-revision"]

    sides = [side_of(user) for user in range(8)]
    assert [side_of(user) for user in range(8)] == sides
    assert set(sides) == {"support@1", "support@2"}
    counted = scene.counted(rollout, Side.CANARY, 2 * sides.count("support@2"))
    assert (counted.answers, counted.output_tokens) == (counted.requests, 2 * counted.requests)
