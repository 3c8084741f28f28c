"""Registries with revisions to roll out, and gateways before them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from registry.database import Registry
from registry.publish import publish
from registry.types import Base, RevisionDraft
from tests.gateway.rollout_scene import RolloutScene
from tests.gateway.stage import report, tick


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
