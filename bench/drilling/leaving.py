"""Clients that leave in the middle of their streams: how soon the engine has stopped generating, by its own metrics."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import httpx2

from bench.comparison.native import generate_load
from bench.drilling.stage import Stage
from engines.load import gauges
from tests.waiting import wait_for

STREAMS = 8
RUNNING = ("engine_requests_running", "vllm:num_requests_running")


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """The outcome of a drill whose clients leave."""

    running_before: int
    """In the engines, just before the clients left."""
    running_after: int
    stopped_after_s: float
    """From the end of the clients until no engine was generating, at a look every few milliseconds."""


def leave(stage: Stage) -> Left:
    """Let clients stream answers that would take long, and end them after two seconds."""
    urls = [one["url"] for one in stage.lorry.admin("GET", "/admin/replicas")["data"]]
    asking = stage.asking
    words = ["--port", str(asking.port), "--model", asking.model, "--stream", "--clients", str(STREAMS)]
    words += ["--tokens", "1500", "--pace-us", "20000", "--warm-s", "2", "--seconds", "0.5"]
    words += [] if asking.key is None else ["--key", asking.key]
    before: list[int] = []
    with httpx2.Client(trust_env=False, timeout=5.0) as http:
        running = _counter(http, urls)
        generate_load(stage.programs, words, lambda: before.append(running()))
        left_at = time.monotonic()
        wait_for(lambda: running() == 0, 30.0)
        return Left(running_before=before[0], running_after=running(), stopped_after_s=time.monotonic() - left_at)


def _counter(http: httpx2.Client, urls: list[str]) -> Callable[[], int]:
    def count() -> int:
        found = [gauges(http.get(f"{url}/metrics").text, *RUNNING) for url in urls]
        return round(sum(sum(values) for one in found for values in one.values()))

    return count
