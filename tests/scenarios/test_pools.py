"""A pool grows under load and shrinks again, an engine started elsewhere helps, and no request is lost by it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import openai
import pytest

from engines.drivers.server_process import free_port
from gateway.settings import BUNDLED_BASE
from tests.up_process import Up
from tests.waiting import wait_for

pytestmark = pytest.mark.scenario

CONFIG = """
[gateway]
replicas = 1

[[engines.pools]]
name = "small"
max_replicas = 2
target_requests = 2
scale_up_after_s = 1
scale_down_after_s = 4
engine = { max_context = 256, max_batch = 8 }
"""
CLIENTS = 6
CHANGE_S = 120.0


@pytest.fixture(scope="module")
def settings() -> str:
    """One pool that may have two replicas."""
    return CONFIG


class Crowd:
    """Clients that ask one question after another."""

    def __init__(self, up: Up) -> None:
        self.replicas: list[str] = []
        self.failures: list[str] = []
        self._up = up
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._chat) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def _chat(self) -> None:
        client = self._up.client()
        while not self._stop.is_set():
            try:
                told = client.chat.completions.with_raw_response.create(
                    model=BUNDLED_BASE, messages=[{"role": "user", "content": "Tell me a story."}], max_tokens=48
                )
                self.replicas.append(str(told.headers["x-lorry-replica"]))
            except openai.OpenAIError as exc:
                self.failures.append(repr(exc))

    def stop(self) -> None:
        """Wait until every client has had its last answer."""
        self._stop.set()
        for thread in self._threads:
            thread.join()


def ready(up: Up, pool: str) -> list[str]:
    """Ids of the ready replicas of *pool*."""
    found: list[dict[str, Any]] = json.loads(up.lorry("replicas", "--json"))
    return [replica["id"] for replica in found if (replica["pool"], replica["state"]) == (pool, "ready")]


def test_a_pool_grows_under_load_and_shrinks_after_it(up: Up) -> None:
    assert len(ready(up, "small")) == 1
    crowd = Crowd(up)
    try:
        wait_for(lambda: len(ready(up, "small")) == 2, CHANGE_S)
        seen = len(crowd.replicas)
        wait_for(lambda: len(set(crowd.replicas[seen:])) == 2, CHANGE_S)
    finally:
        crowd.stop()
    wait_for(lambda: len(ready(up, "small")) == 1, CHANGE_S)
    assert crowd.failures == []


def test_an_engine_that_was_started_elsewhere_takes_its_part(up: Up, model_folder: Path, home: Path) -> None:
    port = free_port("127.0.0.1")
    command = [sys.executable, "-m", "engines.transformers", "--base-path", str(model_folder), "--base-name"]
    command += [BUNDLED_BASE, "--port", str(port), "--threads", "1", "--max-context", "256"]
    add = ("replicas", "add", f"http://127.0.0.1:{port}", "--engine", "transformers", "--base", BUNDLED_BASE)
    assert f"http://127.0.0.1:{port}/health" in up.lorry(*add, code=1)
    with (home / "elsewhere.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as elsewhere:
        try:
            wait_for(lambda: "is entered" in attempt(up, *add), CHANGE_S)
            (replica,) = wait_for(lambda: ready(up, ""), CHANGE_S)
            crowd = Crowd(up)
            wait_for(lambda: replica in crowd.replicas, CHANGE_S)
            up.lorry("replicas", "remove", replica)
            wait_for(lambda: not ready(up, ""), CHANGE_S)
            crowd.stop()
            assert crowd.failures == []
            assert elsewhere.poll() is None
        finally:
            elsewhere.terminate()


def attempt(up: Up, *words: str) -> str:
    """Return what a command prints, whether or not it succeeded."""
    try:
        return up.lorry(*words)
    except AssertionError as exc:
        return str(exc)


def test_it_ends_in_order(up: Up) -> None:
    assert up.stop(signal.SIGTERM) == 0
