"""Speed and memory of a checkpoint on a kind of engine, beside the model in full precision on the same kind.

Two servers run at a time, each with one thread, and are asked in turn, so that drift of the machine falls on both.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx2
import psutil

from engines.address import authorization_of, shown_address
from engines.catalog import build_engine
from engines.errors import EngineError
from engines.hardware.probe import read_machine
from engines.hardware.scheme_choice import why_refused
from engines.proving.load_test import PROMPTS
from engines.proving.trials import Tried, trial_settings
from registry.contracts.quantizations.schemes import SCHEMES, Scheme

TOKENS: Final = 32
_REQUEST_S: Final = 300.0
_STOP_S: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """A server's tokens per processor second in each round, one prompt after the other and eight at once."""

    alone: list[float] = field(default_factory=list)
    at_once: list[float] = field(default_factory=list)
    megabytes: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The result for a scheme on a kind of engine: both speeds, or why there are none."""

    kind: str
    scheme: str
    refused: str = ""
    full: Speed = field(default_factory=Speed)
    checkpoint: Speed = field(default_factory=Speed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """The settings that all pairs share."""

    full: Path
    """The folder of the model in full precision."""
    home: Path
    work: Path
    rounds: int
    most_s: float
    """Longest time of a pair, start of both servers included."""
    tell: Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Server:
    engine: Any
    processes: tuple[psutil.Process, ...]
    speed: Speed


def known_pairs(file: Path) -> dict[tuple[str, str], Pair]:
    """Return the pairs that *file* has a line for."""
    found = {}
    for line in file.read_text("utf-8").splitlines() if file.exists() else ():
        row = json.loads(line)
        pair = Pair(**(row | {name: Speed(**row[name]) for name in ("full", "checkpoint")}))
        found[pair.kind, pair.scheme] = pair
    return found


def measure_pair(bench: Bench, kind: str, scheme: Scheme, folder: Path, file: Path) -> Pair:
    """Measure a pair, add its line to *file*, and return it. A pair that fails has the reason."""
    began = time.monotonic()
    try:
        pair = asyncio.run(_within(bench, kind, scheme, folder))
    except TimeoutError:
        pair = Pair(kind=kind, scheme=scheme, refused=f"not done within {bench.most_s:.0f} s")
    except (EngineError, httpx2.HTTPError) as exc:
        pair = Pair(kind=kind, scheme=scheme, refused=f"{type(exc).__name__}: {exc}")
    with file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(asdict(pair)) + "\n")
    bench.tell(f"{kind}, {scheme}: {pair.refused or 'measured'} ({time.monotonic() - began:.0f} s)")
    return pair


async def _within(bench: Bench, kind: str, scheme: Scheme, folder: Path) -> Pair:
    machine = read_machine()
    if SCHEMES[scheme].gguf_type and (why := why_refused(kind, scheme, machine)):
        return Pair(kind=kind, scheme=scheme, refused=why)
    tried = Tried(kinds=(kind,), checkpoint=folder, original=bench.full, home=bench.home, logs=bench.work)
    try:
        build_engine(trial_settings(kind, folder, tried, machine))  # refuses what cannot be; nothing is started
    except EngineError as exc:
        return Pair(kind=kind, scheme=scheme, refused=str(exc))
    async with asyncio.timeout(bench.most_s), AsyncExitStack() as running:
        servers = [
            await running.enter_async_context(_started(bench, kind, each, tried)) for each in (bench.full, folder)
        ]
        await _ask_in_turn(bench, f"{kind}, {scheme}", servers)
        full, checkpoint = [await _weighed(each) for each in servers]
    return Pair(kind=kind, scheme=scheme, full=full, checkpoint=checkpoint)


@asynccontextmanager
async def _started(bench: Bench, kind: str, folder: Path, tried: Tried) -> AsyncIterator[_Server]:
    before = {each.pid for each in psutil.Process().children()}
    engine = build_engine(trial_settings(kind, folder, tried, read_machine()))
    began = time.monotonic()
    try:
        await engine.start()
        new = tuple(each for each in psutil.Process().children() if each.pid not in before)
        bench.tell(f"{kind}: {folder.name[:24]} ready after {time.monotonic() - began:.0f} s")
        yield _Server(engine=engine, processes=new, speed=Speed())
    finally:
        await engine.stop(_STOP_S)


async def _ask_in_turn(bench: Bench, name: str, servers: list[_Server]) -> None:
    """Ask both in each round, forwards and backwards; the first round warms up and does not count."""
    for number in range(-1, bench.rounds):
        for server in servers if number % 2 == 0 else servers[::-1]:
            alone, at_once = await _tokens_per_s(server, together=False), await _tokens_per_s(server, together=True)
            if number >= 0:
                server.speed.alone.append(alone)
                server.speed.at_once.append(at_once)
        bench.tell(f"{name}: round {number + 1} of {bench.rounds}")


async def _weighed(server: _Server) -> Speed:
    resident = await server.engine.memory_bytes()
    return Speed(alone=server.speed.alone, at_once=server.speed.at_once, megabytes=(resident or 0) / 1e6)


async def _tokens_per_s(server: _Server, *, together: bool) -> float:
    """Return the tokens of answers per processor second of the server."""
    url = server.engine.base_url
    began = _processor_seconds(server)
    async with httpx2.AsyncClient(
        base_url=shown_address(url), headers=authorization_of(url), timeout=_REQUEST_S, trust_env=False
    ) as http:
        if together:
            counts = await asyncio.gather(*(_answer(http, prompt) for prompt in PROMPTS))
        else:
            counts = [await _answer(http, prompt) for prompt in PROMPTS]
    return sum(counts) / (_processor_seconds(server) - began)


async def _answer(http: httpx2.AsyncClient, prompt: str) -> int:
    """Return the number of tokens of an answer."""
    body = {
        "model": "trial",
        "messages": [{"role": "user", "content": prompt}],
        "temperature": 0,
        "max_tokens": TOKENS,
    }
    found = await http.post("/v1/chat/completions", json=body)
    found.raise_for_status()
    return int(found.json()["usage"]["completion_tokens"])


def _processor_seconds(server: _Server) -> float:
    """Return the processor seconds of a server's processes and all that they started."""
    times = [each.cpu_times() for root in server.processes for each in (root, *root.children(recursive=True))]
    return float(sum(each.user + each.system for each in times))
