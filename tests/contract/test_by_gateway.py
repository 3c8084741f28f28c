"""An OpenAI client gets the revision that it names from every engine, and 404 for a name that does not exist."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from gateway.app import build_app, build_gateway
from gateway.settings import GatewaySettings
from registry.artifacts import folder_digest
from registry.database import Registry
from registry.fingerprint import write_fingerprint
from registry.publish import publish
from registry.types import Base, Replica, ReplicaState, RevisionDraft, Slot, SlotState
from tests.conftest import made_up_fingerprint
from tests.contract.engine_host import EngineHost


@pytest.fixture
def gateway(
    host: EngineHost, sqlite_registry: Registry, model_folder: Path, adapters: dict[str, Path], tmp_path: Path
) -> Iterator[TestClient]:
    """A gateway whose only replica is the engine, with both adapters published and loaded."""
    digest = folder_digest(model_folder)
    base = Base(name="base", path=str(model_folder), digest=digest, licence="apache-2.0", created_at=1.0)
    sqlite_registry.bases.enter(base)
    for served_name, folder in adapters.items():
        name = served_name.partition("@")[0]
        copy = tmp_path / name
        shutil.copytree(folder, copy)
        write_fingerprint(made_up_fingerprint(digest), copy)
        publish(sqlite_registry, copy, RevisionDraft(adapter=name, base="base", owner="me"))
    replica = Replica(
        id="r0",
        base="base",
        engine=host.kind,
        url=host.engine.base_url,
        state=ReplicaState.READY,
        capacity=3,
        slots=tuple(Slot(served_name=name, state=SlotState.READY) for name in adapters),
        message="",
        started_at=0.0,
        heartbeat_at=0.0,
    )
    sqlite_registry.replicas.report(replica)
    with TestClient(build_app(build_gateway(GatewaySettings(), sqlite_registry))) as client:
        yield client


def test_each_name_is_answered_by_its_own_weights(
    gateway: TestClient, host: EngineHost, adapters: dict[str, Path]
) -> None:
    for model in ("base", *adapters):
        answer = gateway.post("/v1/chat/completions", json=host.body() | {"model": model})
        assert answer.status_code == 200
        body = answer.json()
        assert body["choices"][0]["message"]["content"] == host.say(model=model)
        assert body["model"] == answer.headers["x-lorry-revision"] == model


def test_an_unknown_name_is_404_whatever_the_engine_would_say(gateway: TestClient, host: EngineHost) -> None:
    answer = gateway.post("/v1/chat/completions", json=host.body() | {"model": "ghost@1"})
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"
