"""A server counts as started when the child itself answers, and never by the answer of another process."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from engines.drivers.server_process import ServerProcess
from engines.errors import EngineStartFailed
from engines.settings import EngineSettings
from tests.engines.drivers.stub_server import StubServer


@pytest.mark.anyio
async def test_the_answer_of_another_process_on_the_port_is_not_that_of_the_child(tmp_path: Path) -> None:
    other = StubServer("tiny")
    settings = EngineSettings(
        kind="vllm",
        base_path=tmp_path,
        base_name="tiny",
        log_path=tmp_path / "log",
        port=int(other.url.rpartition(":")[2]),
        start_timeout_s=60.0,
    )
    server = ServerProcess(settings)
    script = "import time; print('loading', flush=True); time.sleep(0.3); raise SystemExit('address already in use')"
    with pytest.raises(EngineStartFailed, match=r"exited with 1.*[\s\S]*address already in use"):
        await server.start([sys.executable, "-c", script], {})
    await server.stop(0.0)
    other.close()


@pytest.mark.anyio
async def test_the_log_of_a_start_that_failed_is_quoted_without_the_key(tmp_path: Path) -> None:
    settings = EngineSettings(kind="sglang", base_path=tmp_path, base_name="tiny", log_path=tmp_path / "log")
    server = ServerProcess(settings)
    with pytest.raises(EngineStartFailed, match=r"log:\napi_key=\*\*\*\n"):
        await server.start([sys.executable, "-c", f"raise SystemExit('api_key={server.key}')"], {})
    assert server.key not in server.last_log_lines()
    await server.stop(0.0)
