"""Keys over HTTP open their scopes only, are refused with the right error, and are made and revoked."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import openai
import pytest
from fastapi.routing import APIRoute

from gateway.endpoints import ROUTERS
from gateway.http.authentication import OPEN
from gateway.settings import GatewaySettings
from registry.database import Registry
from registry.keys import KeyDraft, KeyLimits, Scope
from registry.publishing.publish import publish
from registry.types import Base, RevisionDraft
from tests.gateway.edge.test_relay import CHAT, OK
from tests.gateway.replica_rows import replica_row
from tests.gateway.sdk import sdk
from tests.gateway.served import ServedGateway
from tests.gateway.telemetry.scraped import without_process
from tests.stub_engine import StubEngine, answer
from tests.waiting import wait_for

Open = Callable[..., httpx2.Client]
Issue = Callable[..., dict[str, str]]
USED = answer(200, b'{"model": "tiny", "choices": [], "usage": {"total_tokens": 10}}')
CHATS = "/v1/chat/completions"


@pytest.fixture
def gateway(sqlite_registry: Registry, base: Base) -> Iterator[Open]:
    """Starts gateways over one registry."""
    sqlite_registry.bases.enter(base)
    with ExitStack() as running:

        def start(**settings: Any) -> httpx2.Client:
            knobs = GatewaySettings(route_refresh_s=0.05, replica_wait_s=20.0, **settings)
            return running.enter_context(ServedGateway(knobs, sqlite_registry)).client

        yield start


@pytest.fixture
def issue(sqlite_registry: Registry) -> Issue:
    """Makes a key, the first one for everything, and gives the headers that carry it."""

    def make(*scopes: Scope, models: frozenset[str] | None = None, **limits: int) -> dict[str, str]:
        draft = KeyDraft(
            name="-".join(scopes) or "root",
            scopes=frozenset(scopes or Scope),
            models=models,
            limits=KeyLimits(**limits),
        )
        return {"authorization": f"Bearer {sqlite_registry.keys.create(draft, actor='ann').secret}"}

    return make


@pytest.fixture
def engine(sqlite_registry: Registry) -> Iterator[Callable[..., StubEngine]]:
    """Starts a stub engine for the base model."""
    with ExitStack() as running:

        def start(*script: Any) -> StubEngine:
            started = StubEngine(*script)
            running.callback(started.close)
            sqlite_registry.replicas.report(replica_row("r0", url=started.url))
            return started

        yield start


def code_of(told: Any) -> tuple[int, str]:
    error = told.json()["error"]
    # Anthropic's form has the code among its details.
    return told.status_code, error["code"] if "code" in error else error["details"]["error_code"]


def test_once_there_is_a_key_every_endpoint_but_health_wants_one(gateway: Open, issue: Issue) -> None:
    issue()
    client = gateway()
    tried = 0
    for route in (route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)):
        for method in (route.methods or set()) - {"HEAD"}:
            told = client.request(method, route.path.replace("{", "").replace("}", "").replace(":path", ""))
            if route.path in OPEN:
                assert told.status_code in (200, 503)
                continue
            tried += 1
            assert code_of(told) == (401, "invalid_api_key"), route.path
            assert told.headers["www-authenticate"] == "Bearer"
            assert told.headers["x-request-id"]
    assert tried > 40
    for path in ("/docs", "/openapi.json", "/nowhere", "/v1/nowhere"):
        assert client.get(path).status_code == 401


@pytest.mark.long
@pytest.mark.parametrize(
    ("scope", "open_to", "closed_to"),
    [
        (Scope.INFERENCE, {"/v1/models", "/v1/files"}, {"/v1/fine_tuning/jobs", "/admin/keys", "/admin/jobs"}),
        (Scope.TRAINING, {"/v1/models", "/v1/files", "/v1/fine_tuning/jobs"}, {"/admin/keys", "/docs"}),
        (Scope.ADMIN, {"/v1/models", "/admin/keys", "/admin/audit", "/docs"}, {"/v1/files", "/v1/fine_tuning/jobs"}),
    ],
)
def test_a_scope_opens_its_endpoints_and_no_other(
    gateway: Open, issue: Issue, scope: Scope, open_to: set[str], closed_to: set[str]
) -> None:
    issue()
    headers = issue(scope)
    client = gateway()
    for path in open_to:
        assert client.get(path, headers=headers).status_code == 200
    for path in closed_to:
        assert code_of(client.get(path, headers=headers)) == (403, "missing_scope")
    if scope is not Scope.INFERENCE:
        assert code_of(client.post(CHATS, json=CHAT, headers=headers)) == (403, "missing_scope")


def test_metrics_need_a_key_for_them_unless_a_setting_opens_them(gateway: Open, issue: Issue) -> None:
    client = gateway()
    assert client.get("/metrics").status_code == 200
    root, scraper, chat = issue(), issue(Scope.METRICS), issue(Scope.INFERENCE)
    wait_for(lambda: client.get("/metrics", headers=chat).status_code == 403)
    assert [client.get("/metrics", headers=key).status_code for key in (root, scraper, chat)] == [200, 200, 403]
    assert client.get("/metrics").status_code == 401
    assert "lacks the scope admin or metrics" in client.get("/metrics", headers=chat).text
    assert client.get("/v1/models", headers=scraper).status_code == 403
    assert gateway(metrics_need_key=False).get("/metrics").status_code == 200


def test_an_upload_without_a_key_is_refused_before_it_is_sent(url: str, sqlite_registry: Registry) -> None:
    sqlite_registry.keys.create(KeyDraft(name="root", scopes=frozenset(Scope)), actor="ann")
    wait_for(lambda: openai_refuses(url))
    address = urlsplit(url)
    head = f"POST /v1/files HTTP/1.1\r\nhost: {address.netloc}\r\n"
    with socket.create_connection((address.hostname or "", address.port), timeout=60) as client:
        client.sendall(
            f"{head}content-type: multipart/form-data; boundary=x\r\ncontent-length: 100000000\r\n\r\n".encode()
        )
        assert client.recv(1024).startswith(b"HTTP/1.1 401")


def openai_refuses(url: str) -> bool:
    try:
        with sdk(url) as client:
            client.models.list()
    except openai.AuthenticationError:
        return True
    return False


def test_a_key_is_made_shown_once_and_revoked_at_every_gateway(gateway: Open, issue: Issue) -> None:
    root = issue()
    here, there = gateway(), gateway()
    wanted = {"name": "chat", "models": ["tiny"], "requests_per_minute": 60, "priority": "low", "owner": "ann"}
    told = here.post("/admin/keys", json=wanted, headers=root)
    made = told.json()
    assert told.status_code == 201
    assert made["key"].startswith("sk-lorry-")
    assert (made["scopes"], made["models"], made["actor"]) == (["inference"], ["tiny"], "root")
    headers = {"authorization": f"Bearer {made['key']}"}
    assert there.get("/v1/models", headers=headers).status_code == 200
    listed = there.get("/admin/keys", headers=root).json()["data"]
    assert [key["name"] for key in listed] == ["chat", "root"]
    assert made["key"] not in str(listed)
    assert {name: listed[0][name] for name in wanted} == wanted
    assert listed[0]["hint"] == f"sk-lorry-...{made['key'][-4:]}"
    revoked = here.delete(f"/admin/keys/{made['id']}", headers=root).json()
    assert revoked["revoked_at"] is not None
    for client in (here, there):
        assert code_of(client.get("/v1/models", headers=headers)) == (401, "invalid_api_key")
    assert code_of(here.delete("/admin/keys/chat", headers=root)) == (404, "not_found")
    assert code_of(here.delete("/admin/keys/root", headers=root)) == (409, "conflict")


def test_the_first_key_is_made_without_one_and_opens_everything(gateway: Open) -> None:
    here, there = gateway(), gateway()
    made = here.post("/admin/keys", json={"name": "root"}).json()
    assert made["scopes"] == ["admin", "inference", "metrics", "training"]
    for client in (here, there):
        assert client.get("/v1/models").status_code == 401
        assert client.get("/v1/models", headers={"authorization": f"Bearer {made['key']}"}).status_code == 200


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"name": "a b"}, "name"),
        ({"name": "x", "scopes": []}, "scopes"),
        ({"name": "x", "scopes": ["all"]}, "scopes"),
        ({"name": "x", "requests_per_minute": 0}, "requests_per_minute"),
        ({"name": "x", "rpm": 5}, "rpm"),
        ({"name": "x", "priority": "urgent"}, "priority"),
    ],
)
def test_what_cannot_be_a_key_is_refused_by_its_field(gateway: Open, wrong: dict[str, Any], param: str) -> None:
    told = gateway().post("/admin/keys", json=wrong)
    assert told.status_code == 400
    assert told.json()["error"]["param"].startswith(param)


def test_who_acts_is_the_key_and_not_what_a_header_says(gateway: Open, issue: Issue) -> None:
    root = issue()
    client = gateway()
    client.post("/admin/keys", json={"name": "chat"}, headers=root | {"x-lorry-actor": "mallory"})
    newest = client.get("/admin/audit", headers=root).json()["data"][0]
    assert (newest["actor"], newest["action"]) == ("root", "key.create")


def test_a_key_for_some_models_reaches_and_sees_only_those(
    gateway: Open,
    issue: Issue,
    engine: Callable[..., StubEngine],
    sqlite_registry: Registry,
    make_adapter: Callable[..., Path],
) -> None:
    draft = RevisionDraft(adapter="support", base="tiny", owner="ann", alias="ft:tiny:acme:support:1")
    publish(sqlite_registry, make_adapter(1), draft)
    root = issue()
    stub = engine(OK)
    headers = issue(Scope.INFERENCE, models=frozenset({"support"}))
    client = gateway()  # last, as a gateway reads all keys before it answers
    told = client.post(CHATS, json=CHAT, headers=headers)
    assert code_of(told) == (403, "model_not_allowed")
    assert (told.json()["error"]["param"], stub.bodies) == ("model", [])
    assert client.post(CHATS, json=CHAT, headers=root).status_code == 200
    seen = {model["id"] for model in client.get("/v1/models", headers=headers).json()["data"]}
    assert seen == {"support", "support@1", "ft:tiny:acme:support:1"}
    assert client.get("/v1/models/tiny", headers=headers).status_code == 404
    assert client.get("/v1/models/tiny", headers=root).status_code == 200


def test_what_is_left_is_told_with_every_answer_and_then_429(
    gateway: Open, issue: Issue, engine: Callable[..., StubEngine]
) -> None:
    root = issue()
    headers = issue(Scope.INFERENCE, requests_per_minute=2, tokens_per_minute=1000)
    engine(USED)
    client = gateway()
    body = CHAT | {"max_tokens": 500}
    first, second = (client.post(CHATS, json=body, headers=headers) for _ in range(2))
    assert first.headers["x-ratelimit-remaining-requests"] == "1"
    assert 400 < int(first.headers["x-ratelimit-remaining-tokens"]) < 500
    assert (second.status_code, second.headers["x-ratelimit-remaining-requests"]) == (200, "0")
    assert int(second.headers["x-ratelimit-remaining-tokens"]) > 400, "what the first did not use was given back"
    told = client.post(CHATS, json=body, headers=headers)
    assert code_of(told) == (429, "rate_limit_exceeded")
    assert told.json()["error"]["type"] == "rate_limit_error"
    assert 0 < int(told.headers["retry-after"]) <= 60
    assert told.headers["x-ratelimit-remaining-requests"] == "0"
    assert 'gateway_rate_limited_total{key="inference"} 1.0' in without_process(
        client.get("/metrics", headers=root).text
    )


def test_a_place_is_free_again_after_each_answer(
    gateway: Open, issue: Issue, engine: Callable[..., StubEngine]
) -> None:
    issue()
    headers = issue(Scope.INFERENCE, concurrent_requests=1)
    engine(OK)
    client = gateway()
    for _ in range(3):
        assert client.post(CHATS, json=CHAT, headers=headers).status_code == 200
        assert client.post(CHATS, json=CHAT | {"model": "none"}, headers=headers).status_code == 404


def test_the_openai_client_understands_every_refusal(url: str, sqlite_registry: Registry) -> None:
    sqlite_registry.keys.create(KeyDraft(name="root", scopes=frozenset(Scope)), actor="ann")
    limits = KeyLimits(tokens_per_minute=10)
    chat = KeyDraft(name="chat", scopes=frozenset({Scope.INFERENCE}), limits=limits)
    secret = sqlite_registry.keys.create(chat, actor="ann").secret
    bearer = {"authorization": f"Bearer {secret}"}
    # the gateway may have read the first key and not yet the second
    wait_for(
        lambda: (
            httpx2.get(f"{url}/v1/fine_tuning/jobs", headers=bearer, trust_env=False, verify=False).status_code == 403
        )
    )
    client = sdk(url, secret)
    with pytest.raises(openai.PermissionDeniedError, match="lacks the scope training"):
        client.fine_tuning.jobs.list()
    assert client.files.list().data == []  # of the purposes of batches
    with pytest.raises(openai.PermissionDeniedError, match="without it files are for batch and batch_output"):
        client.files.create(file=("x.jsonl", b"{}"), purpose="fine-tune")
    with pytest.raises(openai.RateLimitError, match="10 tokens a minute") as refused:
        client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "hi"}])
    assert refused.value.code == "rate_limit_exceeded"
    assert refused.value.response.headers["x-ratelimit-limit-tokens"] == "10"
    client.close()
