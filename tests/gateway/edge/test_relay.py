"""The relay retries, ends and reports requests when scripted engines fail."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx2
import orjson
import pytest

from registry.database import Registry
from registry.publishing.publish import publish
from registry.states import ReplicaState, SlotState
from registry.types import Base, RevisionDraft, Slot
from tests.gateway.replica_rows import replica_row
from tests.gateway.scripted_gateways import SETTINGS, ScriptedGateways
from tests.gateway.served import ServedGateway
from tests.stub_engine import Script, StubEngine, answer, drop, stream_then_drop
from tests.waiting import wait_for

OK = answer(200, b'{"model": "tiny", "choices": []}')
CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}

Serve = Callable[..., httpx2.Client]


@pytest.fixture
def serve(scripted: ScriptedGateways) -> Serve:
    """Starts a gateway before one stub engine for each list of scripts."""
    return lambda *scripts, **settings: scripted.serve(*scripts, **settings).client


def test_an_answer_names_request_revision_and_replica(serve: Serve, engines: list[StubEngine]) -> None:
    client = serve([OK])
    told = client.post("/v1/chat/completions", json=CHAT, headers={"x-request-id": "mine-1"})
    assert told.status_code == 200
    assert told.headers["x-request-id"] == "mine-1"
    assert told.headers["x-lorry-revision"] == "tiny"
    assert told.headers["x-lorry-replica"] == "r0"
    assert orjson.loads(engines[0].bodies[0]) == CHAT


@pytest.mark.parametrize(
    ("engine", "fields"),
    [
        ("transformers", {"model": "support@1"}),
        ("vllm", {"model": "support@1"}),
        ("sglang", {"model": "support@1", "lora_path": "support@1"}),
        ("lmdeploy", {"model": "support@1"}),
    ],
)
def test_each_engine_is_told_the_revision_in_its_own_way(
    sqlite_registry: Registry,
    base: Base,
    make_adapter: Callable[..., Path],
    engines: list[StubEngine],
    engine: str,
    fields: dict[str, str],
) -> None:
    sqlite_registry.bases.enter(base)
    publish(sqlite_registry, make_adapter(1), RevisionDraft(adapter="support", base=base.name, owner="me"))
    engines.append(StubEngine(OK))
    slots = (Slot(served_name="support@1", state=SlotState.READY),)
    sqlite_registry.replicas.report(replica_row("r0", url=engines[0].url, engine=engine, slots=slots))
    with ServedGateway(SETTINGS, sqlite_registry) as gateway:
        for model in ("support@1", "tiny"):
            assert gateway.client.post("/v1/chat/completions", json=CHAT | {"model": model}).status_code == 200
    assert [orjson.loads(body) for body in engines[0].bodies] == [CHAT | fields, CHAT]


@pytest.mark.parametrize("fault", [drop, answer(503, b"{}")])
def test_a_replica_that_fails_before_its_first_byte_is_replaced(serve: Serve, fault: Script) -> None:
    client = serve([fault], [OK])
    told = client.post("/v1/chat/completions", json=CHAT)
    assert (told.status_code, told.headers["x-lorry-replica"]) == (200, "r1")


def test_the_only_replica_is_asked_again_until_it_answers(serve: Serve) -> None:
    client = serve([drop, drop, OK])
    assert client.post("/v1/chat/completions", json=CHAT).status_code == 200


def test_a_stream_that_breaks_ends_with_an_error_event(serve: Serve) -> None:
    client = serve([stream_then_drop(b'data: {"n": 1}\n\n', b'data: {"n": 2}\n\n')])
    told = client.post("/v1/chat/completions", json={**CHAT, "stream": True})
    events = [line.removeprefix("data: ") for line in told.text.splitlines() if line]
    assert [orjson.loads(event) for event in events[:2]] == [{"n": 1}, {"n": 2}]
    assert orjson.loads(events[-1])["error"]["code"] == "engine_unavailable"
    broken = [line for line in client.get("/metrics").text.splitlines() if line.startswith("gateway_broken_streams")]
    assert [line.split("}")[1] for line in broken] == [" 1.0"]


def test_without_a_replica_a_request_waits_and_then_says_when_to_come_again(serve: Serve) -> None:
    client = serve(settings=SETTINGS.model_copy(update={"replica_wait_s": 0.2}))
    told = client.post("/v1/chat/completions", json=CHAT)
    assert (told.status_code, told.headers["retry-after"]) == (503, "2")
    assert told.json()["error"]["code"] == "engine_unavailable"


def test_an_engines_own_refusal_is_passed_on_whole(serve: Serve) -> None:
    refusal = b'{"error": {"message": "too long", "type": "invalid_request_error", "param": null, "code": "x"}}'
    told = serve([answer(400, refusal)]).post("/v1/chat/completions", json=CHAT)
    assert (told.status_code, told.content) == (400, refusal)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{", None),
        (b"[]", None),
        (b"{}", "model"),
        (b'{"model": 3}', "model"),
        (b'{"model": "tiny", "lora_path": "another@1"}', "lora_path"),
    ],
)
def test_a_body_that_names_no_model_or_weights_besides_is_refused_before_an_engine_sees_it(
    serve: Serve, engines: list[StubEngine], body: bytes, param: str | None
) -> None:
    told = serve([OK]).post("/v1/chat/completions", content=body)
    assert told.status_code == 400
    assert set(told.json()["error"]) == {"message", "type", "param", "code"}
    assert told.json()["error"]["param"] == param
    assert engines[0].bodies == []


def test_a_body_above_the_limit_is_refused(serve: Serve) -> None:
    client = serve([OK], settings=SETTINGS.model_copy(update={"max_body_bytes": 64}))
    assert client.post("/v1/chat/completions", content=b"x" * 65).status_code == 413


def test_the_last_table_serves_on_while_the_registry_is_away(
    serve: Serve, sqlite_registry: Registry, tmp_path: Path
) -> None:
    client = serve([OK])
    assert client.get("/v1/models").status_code == 200
    sqlite_registry.close()
    for part in tmp_path.glob("registry.db*"):
        part.unlink()
    assert client.get("/v1/models").json()["error"]["code"] == "registry_unavailable"
    assert client.post("/v1/chat/completions", json=CHAT).status_code == 200


def test_readiness_follows_the_replicas(serve: Serve, sqlite_registry: Registry, engines: list[StubEngine]) -> None:
    client = serve([OK], settings=SETTINGS.model_copy(update={"replica_wait_s": 0.2}))
    assert client.get("/readyz").status_code == 200
    sqlite_registry.replicas.report(replica_row("r0", url=engines[0].url, state=ReplicaState.DRAINING))
    wait_for(lambda: client.get("/readyz").status_code == 503)
    assert client.post("/v1/chat/completions", json=CHAT).status_code == 503
    assert client.get("/healthz").status_code == 200
