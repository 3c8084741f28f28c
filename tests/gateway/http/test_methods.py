"""HEAD is answered wherever GET is, OPTIONS everywhere, and a wrong path by the one that was meant."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from gateway.endpoints import ROUTERS
from gateway.http.absent_endpoints import instead_of
from gateway.http.authentication import ANY, scopes_of
from gateway.http.meant_path import meant_path
from gateway.http.methods import MethodTable
from gateway.settings import GatewaySettings
from registry.database import Registry
from registry.keys import KeyDraft, Scope
from registry.types import Base
from tests.gateway.served import ServedGateway


@pytest.fixture
def gateway(sqlite_registry: Registry) -> Iterator[ServedGateway]:
    with ServedGateway(GatewaySettings(), sqlite_registry) as served:
        yield served


@pytest.mark.long
@pytest.mark.parametrize(
    "path", ["/healthz", "/readyz", "/health", "/v1/models", "/v1/files", "/v1/models/no", "/docs"]
)
def test_head_is_get_without_its_body(gateway: ServedGateway, path: str) -> None:
    whole, head = gateway.client.get(path), gateway.client.head(path)
    assert head.status_code == whole.status_code
    assert head.headers.get("content-length") == whole.headers.get("content-length")
    assert head.headers.get("content-type") == whole.headers.get("content-type")
    assert head.content == b""
    assert gateway.client.get("/healthz").json() == {"status": "ok"}  # the connection is still in step


def test_health_is_the_readiness_without_a_body(gateway: ServedGateway) -> None:
    told = gateway.client.get("/health")
    assert (told.status_code, told.content) == (503, b"")


def test_options_names_the_methods_without_a_key(sqlite_registry: Registry, gateway: ServedGateway) -> None:
    sqlite_registry.keys.create(KeyDraft(name="root", scopes=frozenset(Scope)), actor="ann")
    for path, allowed in (
        ("/v1/chat/completions", "OPTIONS, POST"),
        ("/v1/files", "GET, HEAD, OPTIONS, POST"),
        ("/v1/files/file-1", "DELETE, GET, HEAD, OPTIONS"),
        ("/v1/models/org/model", "DELETE, GET, HEAD, OPTIONS"),
    ):
        told = gateway.client.options(path)
        assert (told.status_code, told.headers["allow"], told.content) == (204, allowed, b"")


def test_options_of_the_server_as_a_whole(gateway: ServedGateway) -> None:
    with gateway.connect() as connection:
        connection.sendall(b"OPTIONS * HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 204 No Content\r\n")


def test_a_method_that_is_not_taken_names_those_of_every_route_of_the_path(gateway: ServedGateway) -> None:
    told = gateway.client.delete("/v1/files")
    assert (told.status_code, told.headers["allow"]) == (405, "GET, HEAD, OPTIONS, POST")
    assert told.json()["error"]["message"] == "the path '/v1/files' takes no DELETE; `allow` names its methods"


def test_every_endpoint_takes_options_and_head_where_it_takes_get() -> None:
    table = MethodTable(ROUTERS)
    for router in ROUTERS:
        for route in router.routes:
            methods = table.of(getattr(route, "path", "").replace("{name:path}", "a/b"))
            assert "OPTIONS" in methods
            assert ("HEAD" in methods) == ("GET" in methods)


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/v1/v1/chat/completions", "/v1/chat/completions"),
        ("/chat/completions", "/v1/chat/completions"),
        ("/api/v1/models/tiny", "/v1/models/tiny"),
        ("/models", "/v1/models"),
        ("/v1/models", None),
        ("/v1/realtime", None),
        ("/batches/batch_1", "/v1/batches/batch_1"),
        ("/", None),
        ("/admin/keys", None),
        ("/files", "/v1/files"),
        ("/chat/completionsx", None),
    ],
)
def test_a_wrong_base_url_is_told_by_its_path(path: str, meant: str | None) -> None:
    assert meant_path(path) == meant


def test_a_slash_at_the_end_of_a_path_changes_nothing(
    sqlite_registry: Registry, base: Base, gateway: ServedGateway
) -> None:
    sqlite_registry.bases.enter(replace(base, name="HuggingFaceTB/SmolLM2"))
    for path in ("/v1/models", "/v1/files", "/v1/models/HuggingFaceTB/SmolLM2", "/v1/models/HuggingFaceTB%2FSmolLM2"):
        plain, slashed = gateway.client.get(path), gateway.client.get(f"{path}/")
        assert (plain.status_code, plain.json()) == (slashed.status_code, slashed.json())
        assert plain.status_code == 200


@pytest.mark.parametrize(
    ("path", "instead"),
    [
        ("/v1/moderations", "POST /v1/chat/completions"),
        ("/v1/images/generations", "makes text only"),
        ("/v1/audio/speech", "/v1/audio/transcriptions"),
        ("/v1/assistants/asst_1", "previous_response_id"),
        ("/v1/threads/t/runs", "previous_response_id"),
        ("/v1/vector_stores/vs/files", "POST /v1/embeddings"),
        ("/v1/realtime/client_secrets", "stream"),
        ("/v1/evals/e/runs", "/v1/fine_tuning/alpha/graders/run"),
        ("/v1/containers", "tools"),
        ("/v1/chat/completions/chatcmpl-1", "stores no chats"),
        ("/api/tags", "GET /v1/models"),
    ],
)
def test_an_endpoint_of_another_api_is_answered_with_what_there_is(
    gateway: ServedGateway, path: str, instead: str
) -> None:
    told = gateway.client.post(path, json={})
    error = told.json()["error"]
    assert (told.status_code, error["code"]) == (404, "unknown_url")
    assert instead in error["message"]
    assert scopes_of(path) == ANY if path.startswith("/api") else scopes_of(path) == {Scope.INFERENCE}


def test_only_known_endpoints_of_others_have_a_hint() -> None:
    for path in ("/", "/v1", "/v1/moderationsx", "/admin/moderations", "/api", "/v2", ""):
        assert instead_of(path) is None
    assert scopes_of("/nowhere") == {Scope.ADMIN}


def test_the_hint_reaches_whoever_has_a_key(gateway: ServedGateway) -> None:
    told = gateway.client.post("/v1/v1/chat/completions", json={}).json()["error"]
    assert told["code"] == "unknown_url"
    assert "/v1/chat/completions meant? A client's base URL ends in /v1 once" in told["message"]
    assert scopes_of("/chat/completions") == ANY
    assert scopes_of("/admin/v1/models") == {Scope.ADMIN}
