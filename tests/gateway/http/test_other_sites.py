"""A page of another site reaches nothing while there is no key, and no admin endpoint ever."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import pytest

from gateway.settings import GatewaySettings
from registry.database import Registry
from registry.keys import KeyDraft, Scope
from tests.gateway.served import ServedGateway
from tests.waiting import wait_for

CROSS = {"origin": "http://other.example", "sec-fetch-site": "cross-site", "content-type": "text/plain;charset=UTF-8"}
REBOUND = {"host": "rebound.example:8080"}
ASKED = (
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/files"),
    ("GET", "/v1/files"),
    ("GET", "/v1/models"),
    ("GET", "/metrics"),
    ("GET", "/docs"),
    ("GET", "/admin/audit"),
    ("POST", "/admin/keys"),
    ("POST", "/admin/jobs/no-such-job/cancel"),
    ("POST", "/admin/adapters/other/revisions"),
    ("DELETE", "/v1/files/file-1"),
    ("GET", "/v1/chat/completions"),
)


@pytest.fixture
def client(sqlite_registry: Registry) -> Iterator[httpx2.Client]:
    """A client of a gateway that allows one origin and one further host."""
    settings = GatewaySettings(cors_origins=("http://localhost:5173",), allowed_hosts=("lorry.example",))
    with ServedGateway(settings, sqlite_registry) as served:
        yield served.client


def refusal(client: httpx2.Client, method: str, path: str, headers: dict[str, str]) -> tuple[int, str, str]:
    answer = client.request(method, path, headers=headers, content=b"{}" if method == "POST" else None)
    error = answer.json().get("error", {})
    return answer.status_code, error.get("code", ""), error.get("message", "")


def test_without_keys_a_page_of_another_site_reaches_nothing(client: httpx2.Client) -> None:
    for method, path in ASKED:
        for headers in (CROSS, {"origin": CROSS["origin"]}, {"sec-fetch-site": "cross-site"}, {"origin": "null"}):
            status, code, message = refusal(client, method, path, headers)
            assert (status, code) == (403, "origin_not_allowed"), (path, headers)
            assert "cors_origins" in message
        status, code, message = refusal(client, method, path, REBOUND)
        assert (status, code) == (403, "host_not_allowed"), path
        assert "allowed_hosts" in message


def test_what_the_settings_allow_is_let_in(client: httpx2.Client) -> None:
    page = {"origin": "http://localhost:5173", "sec-fetch-site": "same-site"}
    assert client.get("/admin/audit", headers=page).status_code == 200
    assert client.get("/admin/audit", headers={"host": "lorry.example:80"}).status_code == 200
    assert client.get("/healthz", headers=REBOUND | CROSS).status_code == 200


def test_with_keys_only_the_admin_endpoints_mind_where_a_request_comes_from(
    client: httpx2.Client, sqlite_registry: Registry
) -> None:
    secret = sqlite_registry.keys.create(KeyDraft(name="root", scopes=frozenset(Scope)), actor="ann").secret
    wait_for(lambda: client.get("/v1/models").status_code == 401)
    key = {"authorization": f"Bearer {secret}"}
    for headers in (CROSS, REBOUND):
        assert client.get("/v1/models", headers=headers | key).status_code == 200
        assert client.get("/metrics", headers=headers | key).status_code == 200
        assert client.get("/admin/audit", headers=headers | key).status_code == 403
        assert client.get("/admin/audit", headers=headers).status_code == 403
    assert client.get("/admin/audit", headers=key | {"host": "lorry.prod.svc:8080"}).status_code == 200
    assert client.post("/v1/chat/completions", headers=CROSS | key, content=b"{}").status_code == 415


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/fine_tuning/jobs", "/admin/keys"])
def test_a_json_endpoint_wants_json(client: httpx2.Client, path: str) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        told = client.post(path, headers={"content-type": kind}, content=b'{"model": "m"}')
        assert (told.status_code, told.json()["error"]["code"]) == (415, "unsupported_media_type")
        assert "application/json" in told.json()["error"]["message"]
    assert client.post(path, content=b"[]").status_code == 400
    assert client.post("/v1/nothing", headers={"content-type": "text/plain"}, content=b"x").status_code == 404


def test_a_folder_is_published_as_a_tar(client: httpx2.Client) -> None:
    path = "/admin/adapters/support/revisions"
    told = client.post(path, headers={"content-type": "text/plain"}, content=b"no tar")
    assert (told.status_code, "application/x-tar" in told.json()["error"]["message"]) == (415, True)
    assert client.post(path, headers={"content-type": "application/x-tar"}, content=b"no tar").status_code == 400
