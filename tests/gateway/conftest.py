"""Fixtures of registries with revisions to roll out, and of gateways on them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.app import build_app, build_gateway
from gateway.http.description.openapi import describe
from gateway.settings import GatewaySettings
from registry.contracts.fingerprint import write_fingerprint
from registry.contracts.publish_spec import PublishSpec
from registry.database import Registry, open_registry
from registry.publishing.publish import publish
from registry.publishing.unused_folders import discard_uploads
from registry.settings import RegistrySettings
from registry.types import Base, Revision, RevisionDraft
from tests.conftest import made_up_fingerprint
from tests.gateway.rollouts.rollout_scene import RolloutScene
from tests.gateway.scripted_gateways import ScriptedGateways
from tests.gateway.served import ServedGateway
from tests.gateway.stage import report, tick
from tests.stub_engine import StubEngine


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
    with ServedGateway(GatewaySettings(), sqlite_registry) as gateway:
        yield f"http://127.0.0.1:{gateway.port}"


@pytest.fixture(scope="session")
def described(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The OpenAPI description, which takes a second to make. Tests only read it."""
    artifacts = tmp_path_factory.mktemp("described")
    registry = open_registry(RegistrySettings(url=f"sqlite:///{sqlite_template}", artifacts=artifacts))
    description = describe(build_app(build_gateway(GatewaySettings(), registry)))
    registry.close()
    return description


@pytest.fixture
def scripted(sqlite_registry: Registry, base: Base) -> Iterator[ScriptedGateways]:
    """Gateways over the tiny base model, before stub engines."""
    sqlite_registry.bases.enter(base)
    made = ScriptedGateways(sqlite_registry)
    yield made
    made.close()


@pytest.fixture
def engines(scripted: ScriptedGateways) -> list[StubEngine]:
    """The stub engines of `scripted`."""
    return scripted.engines


@pytest.fixture
def publish_queued(sqlite_registry: Registry, tmp_path: Path) -> Callable[[], Revision | None]:
    """Does what a trainer does with the oldest queued publication, but makes its fingerprint up; None if none waits."""
    registry = sqlite_registry

    def work() -> Revision | None:
        lease = registry.jobs.claim("w1", 60.0)
        if lease is None:
            return None
        job = registry.jobs.get(lease.job_id)
        assert isinstance(job.spec, PublishSpec)
        folder = tmp_path / job.id
        shutil.copytree(registry.artifacts.folder(job.spec.artifact), folder, copy_function=shutil.copyfile)
        write_fingerprint(made_up_fingerprint(job.spec.base_digest), folder)
        draft = RevisionDraft(adapter=job.spec.adapter, base=job.spec.base, owner=job.owner)
        revision = publish(registry, folder, draft, lease=lease)
        discard_uploads(registry)
        return revision

    return work
