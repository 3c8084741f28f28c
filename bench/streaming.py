"""Clients that stream from one server, and what they and the machine saw meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
import random
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from time import perf_counter
from typing import Any, Final

import httpx2
import psutil

from engines.address import authorization_of, shown_address
from engines.catalog import adapter_fields

WORDS: Final = (
    "river",
    "stone",
    "market",
    "cloud",
    "engine",
    "letter",
    "garden",
    "winter",
    "paper",
    "doctor",
    "window",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Where a server is, of which kind, and the process whose work and whose children's work is its own."""

    kind: str
    base: str
    """Served name of its base model."""
    url: str
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """So many clients that stream at a time, over these served names in turn."""

    name: str
    clients: int
    requests_each: int
    models: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The measurement of one scenario on one server."""

    tokens_per_s: float
    first_token_s: float
    """Median over the requests."""
    tokens_per_cpu_s: float
    """By the processor time of all the server's processes: what a busy machine disturbs least."""
    others: float
    """Processors that neither the server nor we kept busy meanwhile."""


async def measure(server: Server, scenario: Scenario, tokens: int, source: random.Random) -> Measured:
    """Let the clients stream; every prompt is new, about a hundred tokens behind the model's own system prompt."""
    prompts = [
        [" ".join(source.choices(WORDS, k=80)) for _ in range(scenario.requests_each)] for _ in range(scenario.clients)
    ]
    async with httpx2.AsyncClient(
        base_url=shown_address(server.url), headers=authorization_of(server.url), timeout=300, trust_env=False
    ) as http:

        async def client(index: int) -> list[float]:
            model = scenario.models[index % len(scenario.models)]
            address = {"model": model} if model == server.base else adapter_fields(server.kind, model)
            return [await stream(http, address, prompt, tokens) for prompt in prompts[index]]

        started, used = perf_counter(), cpu_seconds(server.pid)
        others = busy_seconds() - used - cpu_seconds(os.getpid(), below=False)
        waits = await asyncio.gather(*(client(index) for index in range(scenario.clients)))
        elapsed, used = perf_counter() - started, cpu_seconds(server.pid) - used
    others = busy_seconds() - cpu_seconds(server.pid) - cpu_seconds(os.getpid(), below=False) - others
    total = scenario.clients * scenario.requests_each * tokens
    first = statistics.median(chain.from_iterable(waits))
    return Measured(
        tokens_per_s=total / elapsed,
        first_token_s=first,
        tokens_per_cpu_s=total / used,
        others=others / elapsed,
    )


def cpu_seconds(pid: int, *, below: bool = True) -> float:
    """Return the processor time that a process, and all *below* it, have used so far."""
    process = psutil.Process(pid)
    times = [one.cpu_times() for one in (process, *(process.children(recursive=True) if below else ()))]
    return float(sum(one.user + one.system for one in times))


def busy_seconds() -> float:
    """Return the processor time that the whole machine has used so far."""
    times: Any = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq)


async def stream(http: httpx2.AsyncClient, address: Mapping[str, str], prompt: str, tokens: int) -> float:
    """Read one streamed answer of exactly *tokens* tokens; seconds until its first text."""
    body = {
        **address,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": tokens,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    started, first, generated = perf_counter(), 0.0, 0
    async with http.stream("POST", "/v1/chat/completions", json=body) as answer:
        if answer.status_code != httpx2.codes.OK:
            raise SystemExit(f"{address}: {answer.status_code} {(await answer.aread()).decode()}")
        async for line in answer.aiter_lines():
            if first == 0.0 and '"content":"' in line and '"content":""' not in line:
                first = perf_counter() - started
            if '"completion_tokens":' in line:
                generated = json.loads(line.removeprefix("data: "))["usage"]["completion_tokens"]
    if generated != tokens:
        raise SystemExit(f"{address}: {generated} tokens instead of {tokens}")
    return first
