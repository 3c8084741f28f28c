"""The controller looks after an engine that was entered by hand as long as it is listed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from engines.catalog import ENGINES
from gateway.app import build_app, build_gateway
from gateway.engines_settings import engines_settings
from gateway.pools.entered_engines import EnteredEngines
from gateway.settings import GatewaySettings, Settings, TraceSettings, WebhookSettings
from registry.database import Registry
from registry.publishing.publish import publish
from registry.settings import RegistrySettings
from registry.states import ReplicaState, SlotState
from registry.types import Base, Replica, RevisionDraft
from tests.engines.drivers.stub_server import StubServer

GATEWAY = GatewaySettings(drain_timeout_s=1.0, route_refresh_s=0.02)


@pytest.fixture
def server() -> Iterator[StubServer]:
    running = StubServer("tiny")
    yield running
    running.close()


@pytest.fixture
def http(sqlite_registry: Registry, base: Base) -> Iterator[TestClient]:
    sqlite_registry.bases.enter(base)
    with TestClient(build_app(build_gateway(GATEWAY, sqlite_registry)), base_url="http://localhost") as client:
        yield client


@pytest.mark.parametrize(
    ("changed", "param", "said"),
    [
        ({"engine": "ollama"}, "engine", f"there are: {', '.join(sorted(ENGINES))}"),
        ({"base": "large"}, "base", "there are: tiny"),
        ({"url": "http://127.0.0.1:9"}, "url", "no vllm server answers GET http://127.0.0.1:9/health"),
        ({"url": "127.0.0.1:9"}, "url", "must be http://host:port"),
        ({"capacity": -1}, "capacity", "must be at least 0"),
        ({"slots": 2}, "slots", "unknown field"),
    ],
)
def test_what_cannot_be_entered_names_the_field(
    http: TestClient, server: StubServer, changed: dict[str, object], param: str, said: str
) -> None:
    told = http.post("/admin/replicas", json={"url": server.url, "engine": "vllm", "base": "tiny"} | changed)
    assert told.status_code == 400
    assert told.json()["error"]["param"] == param
    assert said in told.json()["error"]["message"]


def test_an_address_is_entered_once_and_only_what_was_entered_is_taken_out(
    http: TestClient, server: StubServer
) -> None:
    body = {"url": server.url, "engine": "vllm", "base": "tiny"}
    entered = http.post("/admin/replicas", json=body)
    assert entered.status_code == 201
    assert http.post("/admin/replicas", json=body).status_code == 409
    assert http.delete("/admin/replicas/other").status_code == 404
    assert http.delete(f"/admin/replicas/{entered.json()['id']}").json()["deleted"] is True
    assert [entry["action"] for entry in http.get("/admin/audit").json()["data"][:2]] == [
        "replica.remove",
        "replica.enter",
    ]


def test_it_is_heard_of_loaded_held_to_proof_and_gone_when_it_is_taken_out(
    http: TestClient,
    server: StubServer,
    sqlite_registry: Registry,
    sqlite_settings: RegistrySettings,
    make_adapter: Callable[..., Path],
    tmp_path: Path,
) -> None:
    publish(sqlite_registry, make_adapter(), RevisionDraft(adapter="support", base="tiny", owner="me"))
    body = {"url": server.url, "engine": "vllm", "base": "tiny", "capacity": 4}
    replica_id = http.post("/admin/replicas", json=body).json()["id"]
    settings = Settings(
        home=tmp_path,
        registry=sqlite_settings,
        gateway=GATEWAY,
        engines=engines_settings({"tick_s": 0.02}, {}),
        webhooks=WebhookSettings(),
        traces=TraceSettings(),
    )

    async def story() -> None:
        entered = EnteredEngines(sqlite_registry, settings)
        await entered.step()
        async with asyncio.timeout(20):
            while (row := found(sqlite_registry, replica_id)) is None or row.state is not ReplicaState.READY:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert (row.url, row.engine, row.pool, row.capacity) == (server.url, "vllm", "", 4)
        (slot,) = row.slots
        assert (slot.state, slot.reason) == (SlotState.FAILED, "not_proven")  # the stub cannot chat
        sqlite_registry.entered.remove(replica_id, "me")
        await entered.step()
        assert found(sqlite_registry, replica_id) is None
        assert server.adapters == {}

    asyncio.run(story())


def found(registry: Registry, replica_id: str) -> Replica | None:
    """The replica unless it is gone."""
    return next((row for row in registry.snapshot().replicas if row.id == replica_id), None)
