"""What every engine promises to the rest of Lorry."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from engines.catalog import build_engine
from engines.errors import AdapterLoadFailed, AdapterNotLoaded, EngineStartFailed, UnknownEngine
from engines.settings import EngineSettings
from tests.contract.engine_host import EngineHost, wait_until

pytestmark = pytest.mark.engine

PARENT = """
import asyncio, pathlib, sys
from engines.catalog import build_engine
from engines.settings import EngineSettings
async def main():
    kind, base, log = sys.argv[1:]
    settings = EngineSettings(kind=kind, base_path=base, base_name="base", log_path=log, max_context=64)
    engine = build_engine(settings)
    await engine.start()
    print(engine.base_url, flush=True)
    await engine.wait_exit()
asyncio.run(main())
"""


def test_base_and_adapters_answer_each_in_their_own_way(host: EngineHost, adapters: dict[str, Path]) -> None:
    answers = {name: host.say(model=name) for name in ("base", *adapters)}
    assert answers["base"] == "The capital of France is Paris."
    assert len(set(answers.values())) == 3
    assert host.call(host.engine.loaded_adapters()) == set(adapters)


def test_loading_twice_is_once_but_a_name_stays_with_its_path(host: EngineHost, adapters: dict[str, Path]) -> None:
    host.load("one@1", adapters["one@1"])
    with pytest.raises(AdapterLoadFailed, match="already loaded"):
        host.load("one@1", adapters["two@1"])


def test_an_adapter_comes_and_goes_while_serving(host: EngineHost, adapters: dict[str, Path]) -> None:
    host.load("two@2", adapters["two@1"])
    assert host.say(model="two@2") == host.say(model="two@1")
    host.call(host.engine.unload_adapter("two@2"))
    assert "two@2" not in host.call(host.engine.loaded_adapters())
    assert host.http.post("/v1/completions", json={"model": "two@2", "prompt": "x"}).status_code == 404
    with pytest.raises(AdapterNotLoaded):
        host.call(host.engine.unload_adapter("two@2"))


def test_what_cannot_be_loaded_says_why(host: EngineHost, adapters: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(AdapterLoadFailed, match="does not exist"):
        host.load("none@1", tmp_path / "none")
    host.load("third@1", adapters["one@1"])
    with pytest.raises(AdapterLoadFailed, match="all 3 places"):
        host.load("fourth@1", adapters["one@1"])
    host.call(host.engine.unload_adapter("third@1"))


def test_a_started_engine_is_healthy(host: EngineHost) -> None:
    assert host.call(host.engine.is_healthy())
    assert host.engine.traits.max_adapters == 3


def test_an_engine_without_a_model_fails_to_start_and_shows_its_log(kind: str, tmp_path: Path) -> None:
    settings = EngineSettings(kind=kind, base_path=tmp_path, base_name="base", log_path=tmp_path / "log")
    import asyncio

    with pytest.raises(EngineStartFailed, match=str(tmp_path)):
        asyncio.run(build_engine(settings).start())


def test_an_unknown_kind_lists_the_known_ones(tmp_path: Path) -> None:
    settings = EngineSettings(kind="steam", base_path=tmp_path, base_name="base", log_path=tmp_path / "log")
    with pytest.raises(UnknownEngine, match="transformers"):
        build_engine(settings)


def test_a_killed_owner_leaves_no_server(kind: str, model_folder: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", PARENT, kind, str(model_folder), str(tmp_path / "log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout is not None
        url = parent.stdout.readline().strip()
        assert httpx2.get(url + "/health", trust_env=False).status_code == 200
        parent.send_signal(signal.SIGKILL)
    wait_until(lambda: not answers(url))


def answers(url: str) -> bool:
    try:
        httpx2.get(url + "/health", trust_env=False)
    except httpx2.TransportError:
        return False
    return True
