"""Real servers, started through the engine interface: one of each kind for the whole suite, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engines.settings import EngineSettings
from tests.contract.engine_host import EngineHost
from tests.contract.kinds import ALL, PLACES, interpreter_of
from tests.engines.random_adapter import write_adapter


@pytest.fixture(scope="session", params=ALL)
def kind(request: pytest.FixtureRequest) -> str:
    """A test that asks for it runs once for each kind."""
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def adapters(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> dict[str, Path]:
    """Two adapters with answers of their own."""
    root = tmp_path_factory.mktemp("adapters")
    return {
        name: write_adapter(root / name, model_folder, seed, strength=0.06 * seed)
        for seed, name in enumerate(("one@1", "two@1"), start=1)
    }


@pytest.fixture(scope="session")
def settings_of(
    kind: str, model_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., EngineSettings]:
    """Settings of this kind for the bundled model."""

    def make(**fields: Any) -> EngineSettings:
        known = {
            "kind": kind,
            "interpreter": interpreter_of(kind),
            "base_path": model_folder,
            "base_name": "base",
            "log_path": tmp_path_factory.mktemp(kind) / "engine.log",
            "max_context": 512,
            "max_rank": 16,
        }
        return EngineSettings.model_validate(known | fields)

    return make


@pytest.fixture(scope="session")
def host(settings_of: Callable[..., EngineSettings], adapters: dict[str, Path]) -> Iterator[EngineHost]:
    """A server that was started with both adapters; tests leave it as they found it, but for the last one."""
    running = EngineHost(settings_of(max_adapters=PLACES, max_rank=32), adapters)
    yield running
    running.close()


@pytest.fixture(scope="module")
def narrow_host(settings_of: Callable[..., EngineSettings]) -> Iterator[EngineHost]:
    """A server that takes one request and lets one more wait."""
    running = EngineHost(settings_of(max_batch=1, max_queue=1), {})
    yield running
    running.close()
