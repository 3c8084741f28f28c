"""Registries with revisions to roll out, and gateways before them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvicorn

from gateway.app import build_app, build_gateway
from gateway.settings import GatewaySettings
from registry.database import Registry
from registry.publish import publish
from registry.types import Base, RevisionDraft
from tests.gateway.rollout_scene import RolloutScene
from tests.gateway.stage import report, tick
from tests.waiting import wait_for


@pytest.fixture
def scene(sqlite_registry: Registry, base: Base, make_adapter: Callable[..., Path]) -> Iterator[RolloutScene]:
    """`support@1` is stable, `support@2` published."""
    made = RolloutScene(sqlite_registry, base, make_adapter)
    yield made
    made.close()


@pytest.fixture
def two_revisions(sqlite_registry: Registry, base: Base, make_adapter: Callable[..., Path]) -> Registry:
    """`support@1` is stable on one replica, `support@2` is published and not loaded."""
    sqlite_registry.bases.enter(base)
    for seed in (1, 2):
        publish(sqlite_registry, make_adapter(seed), RevisionDraft(adapter="support", base=base.name, owner="me"))
    report(sqlite_registry, "r1", "support@1")
    tick(sqlite_registry)
    return sqlite_registry


@pytest.fixture
def url(sqlite_registry: Registry, base: Base) -> Iterator[str]:
    """A gateway over the tiny base model, on a port of its own."""
    sqlite_registry.bases.enter(base)
    app = build_app(build_gateway(GatewaySettings(), sqlite_registry))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_for(lambda: server.started)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()
