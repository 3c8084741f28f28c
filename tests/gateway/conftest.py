"""What tests of rollouts at the gateway share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from registry.database import Registry
from registry.types import Base
from tests.gateway.rollout_scene import RolloutScene


@pytest.fixture
def scene(sqlite_registry: Registry, base: Base, make_adapter: Callable[..., Path]) -> Iterator[RolloutScene]:
    """`support@1` is stable, `support@2` published."""
    made = RolloutScene(sqlite_registry, base, make_adapter)
    yield made
    made.close()
