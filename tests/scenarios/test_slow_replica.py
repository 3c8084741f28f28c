"""A canary that lives on a slow replica alone, on the real model: it is taken back by how long its callers wait."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psutil
import pytest

from gateway.engines_settings import BUNDLED_BASE
from tests.scenarios.rollout_clients import ADAPTERS, Clients, Operator
from tests.up_process import Up
from tests.waiting import wait_for

pytestmark = pytest.mark.judged

# Two replicas with a place each: one has the stable revision, the other the canary.
SETTINGS: Final = """
[engines]
replicas = 2

[engines.engine]
threads = 1
max_adapters = 1
max_context = 512
"""
# From thirty requests on a step is not left while something looks worse; the stable side must show what is usual.
PLAN: Final = (
    *("--steps", "20,100", "--min-samples", "30"),
    *("--guardrail", "ttft_p95=0.5", "--guardrail", "tpot_p95=0.5"),
)
RUNS_S: Final = 0.05
STANDS_S: Final = 0.15
"""So a throttled engine has a quarter of the time."""
LOAD_TIMEOUT_S: Final = 60.0
END_TIMEOUT_S: Final = 300.0


@pytest.fixture(scope="module")
def settings() -> str:
    return SETTINGS


def holders(operator: Operator, served_name: str) -> list[str]:
    """The addresses of the ready replicas that have a revision."""
    return [
        replica["url"]
        for replica in operator.get("/admin/replicas")["data"]
        if any(slot["served_name"] == served_name and slot["state"] == "ready" for slot in replica["slots"])
    ]


@contextmanager
def throttled(process: psutil.Process) -> Iterator[None]:
    """Let *process* run a part of the time only, as a container over its share of the processor."""
    over = threading.Event()

    def throttle() -> None:
        while not over.wait(RUNS_S):
            process.suspend()
            over.wait(STANDS_S)
            process.resume()

    thread = threading.Thread(target=throttle)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_a_canary_that_only_a_slow_replica_has_is_taken_back(up: Up, capsys: pytest.CaptureFixture[str]) -> None:
    operator = Operator(up)
    wait_for(lambda: len(operator.get("/admin/replicas")["data"]) == 2, LOAD_TIMEOUT_S)
    for folder in ("plain", "good"):
        up.lorry("adapters", "publish", str(ADAPTERS / folder), "--name", "remote", "--base", BUNDLED_BASE)
    wait_for(lambda: operator.stable("remote") == 1, LOAD_TIMEOUT_S)
    identity = json.loads(up.lorry("rollout", "start", "remote@2", *PLAN, "--json"))["id"]
    (slow,) = wait_for(lambda: holders(operator, "remote@2"), LOAD_TIMEOUT_S)
    assert slow not in holders(operator, "remote@1")
    with throttled(up.listener(slow)), Clients(up, "remote") as clients:
        rollout = operator.end_of(identity, END_TIMEOUT_S)
        after = clients.sent_after(rollout["finished_at"] + 1.0)
    assert (rollout["state"], rollout["reason"]) in (("aborted", "ttft_p95"), ("aborted", "tpot_p95"))
    assert "on replicas where stable answered nothing" in rollout["events"][-1]["message"]
    assert {answer.revision for answer in after} == {"remote@1"}
    assert operator.stable("remote") == 1
    assert (clients.failures, clients.cut_off) == ([], [])
    with capsys.disabled():
        print(f"\n  {rollout['events'][-1]['message']}", end="")  # noqa: T201  figures for people
