"""A cluster's secret is replaced while clients are answered; without it nobody uses an engine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from engines.address import key_of, shown_address
from engines.network.cluster_secret import SECRET_VARIABLE, ClusterSecret
from engines.replica.report import Phase, ReplicaReport
from engines.settings import EngineSettings
from gateway.pools.journal import RegistryJournal, ReplicaIdentity
from gateway.settings import GatewaySettings
from registry.artifacts import folder_digest
from registry.database import Registry
from registry.types import Base
from tests.contract.engine_host import EngineHost
from tests.gateway.served import ServedGateway

OLD, NEW = "o" * 32, "n" * 32
CHAT = {"model": "base", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}


class Replicas:
    """Real engines on this machine, which report to a registry as replicas do."""

    def __init__(self, registry: Registry, model_folder: Path, tmp_path: Path) -> None:
        self._registry, self._folder, self._tmp_path = registry, model_folder, tmp_path
        self._running: dict[str, tuple[EngineHost, RegistryJournal]] = {}
        base = Base(
            name="base",
            path=str(model_folder),
            digest=folder_digest(model_folder),
            licence="apache-2.0",
            created_at=1.0,
        )
        registry.bases.enter(base)

    def start(self, name: str) -> EngineHost:
        """Start an engine with the secret that the environment has now."""
        settings = EngineSettings(
            base_path=self._folder, base_name="base", log_path=self._tmp_path / f"{name}.log", max_context=64
        )
        host = EngineHost(settings, {})
        identity = ReplicaIdentity(
            id=name,
            pool="default",
            base="base",
            engine=host.kind,
            capacity=4,
            max_rank=64,
            room=4,
            rollback_window_s=60.0,
            started_at=time.time(),
        )
        journal = RegistryJournal(self._registry, identity)
        paths = host.engine.traits.paths
        journal.report(
            ReplicaReport(url=host.engine.base_url, phase=Phase.READY, paths=paths, slots={}, load=0, message="")
        )
        self._running[name] = (host, journal)
        return host

    def end(self, name: str) -> None:
        """End one as its replica does."""
        host, journal = self._running.pop(name)
        journal.leave()
        host.close()

    def close(self) -> None:
        for name in list(self._running):
            self.end(name)


@pytest.fixture
def replicas(sqlite_registry: Registry, model_folder: Path, tmp_path: Path) -> Iterator[Replicas]:
    running = Replicas(sqlite_registry, model_folder, tmp_path)
    yield running
    running.close()


def answers(gateway: ServedGateway) -> int:
    return gateway.client.post("/v1/chat/completions", json=CHAT).status_code


@pytest.mark.long
def test_a_secret_is_replaced_without_a_request_that_fails(
    sqlite_registry: Registry, replicas: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = GatewaySettings(replica_wait_s=0.5, route_refresh_s=0.05)
    monkeypatch.setenv(SECRET_VARIABLE, OLD)
    replicas.start("by-old")
    with (
        ServedGateway(settings, sqlite_registry, secret=ClusterSecret((OLD,))) as former,
        ServedGateway(settings, sqlite_registry, secret=ClusterSecret((NEW, OLD))) as between,
        ServedGateway(settings, sqlite_registry, secret=ClusterSecret((NEW,))) as latter,
    ):
        assert [answers(gateway) for gateway in (former, between, latter)] == [200, 200, 503]
        monkeypatch.setenv(SECRET_VARIABLE, f"{NEW},{OLD}")
        replicas.start("by-new")
        assert [answers(between) for _ in range(8)] == [200] * 8
        replicas.end("by-old")
        assert [answers(gateway) for gateway in (between, latter)] == [200, 200]


@pytest.mark.long
def test_the_registry_alone_opens_no_engine(
    sqlite_registry: Registry, replicas: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SECRET_VARIABLE, OLD)
    host = replicas.start("r1")
    (row,) = sqlite_registry.snapshot().replicas
    assert OLD not in row.url
    assert key_of(row.url) == ""
    guesses: list[dict[str, str]] = [{}, {"authorization": f"Bearer {OLD}"}, {"x-lorry-cluster": OLD}]
    guesses += [
        {"authorization": f"Bearer {part}"} for part in row.url.split("@")[0].removeprefix("http://").split(".")
    ]
    for headers in guesses:
        with httpx2.Client(base_url=shown_address(row.url), headers=headers, trust_env=False) as stranger:
            assert stranger.post("/v1/chat/completions", json=CHAT).status_code == 401
            assert stranger.post("/v1/load_lora_adapter", json={}).status_code == 401
            assert stranger.get("/metrics").status_code == 401
    assert host.http.post("/v1/chat/completions", json=CHAT).status_code == 200
