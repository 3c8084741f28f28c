"""A server that is stopped finishes its requests, and one whose owner is killed leaves nothing. Runs last of a kind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

from engines.settings import EngineSettings
from tests.contract.engine_host import EngineHost, wait_until

PARENT = """
import asyncio, sys
from engines.catalog import build_engine
from engines.settings import EngineSettings
async def main():
    engine = build_engine(EngineSettings.model_validate_json(sys.argv[1]))
    await engine.start()
    print(engine.base_url, flush=True)
    await engine.wait_exit()
asyncio.run(main())
"""


def test_an_engine_told_to_stop_finishes_its_streams(host: EngineHost) -> None:
    body = host.body(max_tokens=60, ignore_eos=True, stream=True)
    with host.http.stream("POST", "/v1/chat/completions", json=body) as answer, ThreadPoolExecutor(1) as pool:
        lines = answer.iter_lines()
        next(lines)
        stopping = pool.submit(host.call, host.engine.stop(60.0))
        events = [line.removeprefix("data: ") for line in lines if line]
        stopping.result(60)
    assert events[-1] == "[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    reasons = [choice.get("finish_reason") for chunk in chunks for choice in chunk["choices"]]
    assert [reason for reason in reasons if reason] == ["length"]
    assert not host.call(host.engine.is_healthy())
    # A server that has drained may die by the signal that it was sent, never by SIGKILL.
    assert host.call(host.engine.wait_exit()) in {0, -signal.SIGTERM}
    assert host.engine.last_log_lines() != ""


def test_a_killed_owner_leaves_no_process(settings_of: Callable[..., EngineSettings]) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", PARENT, settings_of().model_dump_json()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline().startswith("http://")
        started = psutil.Process(parent.pid).children(recursive=True)
        assert started
        parent.send_signal(signal.SIGKILL)
        parent.wait(10)
    wait_until(lambda: not any(alive(process) for process in started))


def alive(process: psutil.Process) -> bool:
    """Return whether the process runs; a zombie does not."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
