"""A page of an allowed origin may use every endpoint; a page of another one learns which setting allows it."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import pytest
from pydantic import ValidationError

from gateway.origins import AllowedOrigins
from gateway.settings import GatewaySettings
from registry.database import Registry
from registry.keys import KeyDraft, Scope
from tests.gateway.served import ServedGateway

PAGE = "http://localhost:5173"
PATHS = ("/v1/chat/completions", "/v1/models", "/v1/files", "/admin/keys", "/healthz")


@pytest.fixture
def client(sqlite_registry: Registry) -> Iterator[httpx2.Client]:
    """A client of a gateway that has a key, and allows one origin."""
    sqlite_registry.keys.create(KeyDraft(name="root", scopes=frozenset(Scope)), actor="ann")
    with ServedGateway(GatewaySettings(cors_origins=("HTTP://localhost:5173",)), sqlite_registry) as served:
        yield served.client


def preflight(client: httpx2.Client, path: str, origin: str) -> httpx2.Response:
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type"}
    return client.options(path, headers={"origin": origin, **asked})


def test_a_page_of_an_allowed_origin_is_let_in_and_reads_errors(client: httpx2.Client) -> None:
    for path in PATHS:
        asked = preflight(client, path, PAGE)
        assert asked.status_code == 200
        assert asked.headers["access-control-allow-origin"] == PAGE
        assert asked.headers["access-control-allow-headers"] == "authorization,content-type"
        assert "POST" in asked.headers["access-control-allow-methods"]
    refused = [client.post(PATHS[0], headers={"origin": PAGE}, json={}), client.get(PATHS[1], headers={"origin": PAGE})]
    for answer in refused:
        assert answer.status_code == 401
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert answer.headers["vary"].lower() == "origin"
        assert "x-request-id" in answer.headers["access-control-expose-headers"]


def test_a_page_of_another_origin_gets_no_permission(client: httpx2.Client) -> None:
    asked = preflight(client, PATHS[0], "http://localhost:5174")
    assert (asked.status_code, asked.json()["error"]["code"]) == (403, "origin_not_allowed")
    assert "cors_origins" in asked.json()["error"]["message"]
    for answer in (asked, client.post(PATHS[0], headers={"origin": "http://evil.example"}, json={})):
        assert "access-control-allow-origin" not in answer.headers
        assert answer.headers["vary"].lower() == "origin"


def test_without_the_setting_no_answer_has_a_word_for_pages() -> None:
    assert AllowedOrigins(()).lines_for(b"http://localhost:5173") == b""


def test_any_origin_is_allowed_by_a_star() -> None:
    lines = AllowedOrigins(("*",)).lines_for(b"https://a.example")
    assert lines.startswith(b"access-control-allow-origin: *\r\n")
    assert b"vary" not in lines


def test_origins_are_kept_as_browsers_send_them() -> None:
    written = ("https://Chat.Example:443", "http://[::1]:3000", "tauri://localhost", "http://a:8080")
    kept = ("https://chat.example", "http://[::1]:3000", "tauri://localhost", "http://a:8080")
    assert GatewaySettings(cors_origins=written).cors_origins == kept


@pytest.mark.parametrize("wrong", ["localhost:5173", "http://a/", "http://a/path", "null", "", "http://", "http://a b"])
def test_what_is_no_origin_is_refused_with_an_example(wrong: str) -> None:
    with pytest.raises(ValidationError, match="http://localhost:5173"):
        GatewaySettings(cors_origins=(wrong,))
