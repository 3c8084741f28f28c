"""A driver reaches and loads an engine that was started elsewhere, and never starts or stops it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from engines.drivers.adopted import AdoptedEngine
from engines.errors import AdapterLoadFailed, AdaptersFixed, EngineStartFailed
from engines.load import EngineLoad
from engines.settings import EngineSettings
from tests.engines.drivers.stub_server import StubServer


@pytest.fixture
def server() -> Iterator[StubServer]:
    running = StubServer("tiny")
    yield running
    running.close()


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 8}))
    return tmp_path


def not_started(engine: AdoptedEngine) -> str:
    """Why it does not start."""

    async def story() -> str:
        with pytest.raises(EngineStartFailed) as refused:
            await engine.start()
        await engine.stop(0.0)
        return str(refused.value)

    return asyncio.run(story())


def adopted(url: str, kind: str = "vllm", base: str = "tiny") -> AdoptedEngine:
    settings = EngineSettings(
        kind=kind, base_path=Path("/"), base_name=base, log_path=Path("/dev/null"), max_adapters=2, admin_timeout_s=5
    )
    return AdoptedEngine(url, settings)


def test_it_is_found_loaded_asked_and_left_as_it_was(server: StubServer, adapter: Path) -> None:
    async def story() -> None:
        engine = adopted(server.url)
        await engine.start()
        await engine.load_adapter("support@1", adapter)
        assert server.adapters == {"support@1": str(adapter)}
        assert await engine.loaded_adapters() == {"support@1"}
        assert await engine.load() == EngineLoad(running=2, waiting=1)
        await engine.stop(1.0)

    asyncio.run(story())
    assert server.adapters == {}


def test_an_address_where_nobody_answers_is_named() -> None:
    message = not_started(adopted("http://127.0.0.1:9", "sglang"))
    assert message == "no sglang server answers GET http://127.0.0.1:9/ready with 200"


def test_another_base_model_is_refused_with_what_is_there(server: StubServer) -> None:
    assert "serves tiny, not other" in not_started(adopted(server.url, base="other"))


def test_a_folder_that_the_server_refuses_says_that_both_must_see_it(adapter: Path) -> None:
    refusing = StubServer("tiny", load_path=None)

    async def story() -> None:
        engine = adopted(refusing.url)
        with pytest.raises(AdapterLoadFailed, match="must see the folder at this very path"):
            await engine.load_adapter("support@1", adapter)
        await engine.stop(1.0)

    asyncio.run(story())
    refusing.close()


def test_without_live_adapters_it_has_what_it_was_launched_with(adapter: Path) -> None:
    fixed = StubServer("tiny", "support@1", load_path=None)

    async def story() -> None:
        engine = adopted(fixed.url, "lmdeploy")
        await engine.start()
        await engine.load_adapter("support@1", adapter)
        with pytest.raises(AdaptersFixed, match="launch it with support@2="):
            await engine.load_adapter("support@2", adapter)
        await engine.stop(1.0)

    asyncio.run(story())
    assert set(fixed.adapters) == {"support@1"}
    fixed.close()
