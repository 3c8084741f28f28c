"""Real servers, started through the engine interface: one for the whole suite, a narrow one for crowds and its end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engines.catalog import ENGINES
from engines.settings import EngineSettings
from tests.contract.engine_host import EngineHost
from tests.engines.random_adapter import write_adapter


@pytest.fixture(scope="session", params=sorted(ENGINES))
def kind(request: pytest.FixtureRequest) -> str:
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
def host(
    kind: str, model_folder: Path, adapters: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EngineHost]:
    """A server with both adapters loaded; tests leave it as they found it."""
    settings = EngineSettings(
        kind=kind,
        base_path=model_folder,
        base_name="base",
        log_path=tmp_path_factory.mktemp("host") / "engine.log",
        max_adapters=3,
        max_context=512,
    )
    running = EngineHost(settings)
    for name, path in adapters.items():
        running.load(name, path)
    yield running
    running.close()


@pytest.fixture(scope="module")
def narrow_host(kind: str, model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineHost]:
    """A server that takes one request and lets one more wait."""
    settings = EngineSettings(
        kind=kind,
        base_path=model_folder,
        base_name="base",
        log_path=tmp_path_factory.mktemp("narrow") / "engine.log",
        max_batch=1,
        max_queue=1,
        max_context=512,
    )
    running = EngineHost(settings)
    yield running
    running.close()
