"""Engines on this machine beside each other, in one run: time to ready, memory, tokens per second, first token.

    python bench/engines_compared.py --model FOLDER [--model ANOTHER ...] --envs HOME [--kind vllm ...]

Every server is started once and all but the measured one are stopped (SIGSTOP) while it is measured; rounds go over the
servers in turn, forwards and backwards, and medians over the rounds are compared.
`HOME/envs/KIND` is the environment of each. Kinds that do not serve a folder's scheme are left out.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import random
import signal
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Final

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.streaming import Measured, Scenario, Server, busy_seconds, measure
from engines.catalog import ENGINES, ENVIRONMENTS, build_engine
from engines.errors import SettingRefused
from engines.protocol import Engine
from engines.settings import EngineSettings
from tests.engines.random_adapter import write_adapter

ADAPTERS: Final = ("a1", "a2", "a3", "a4")
DISTURBED: Final = 0.15
"""Processors kept busy by others, from which on a measurement is repeated."""

SCENARIOS: Final = (
    Scenario(name="base, 1 client", clients=1, requests_each=3, models=("base",)),
    Scenario(name="base, 16 clients", clients=16, requests_each=2, models=("base",)),
    Scenario(name="one adapter, 1 client", clients=1, requests_each=3, models=("a1",)),
    Scenario(name="one adapter, 16 clients", clients=16, requests_each=2, models=("a1",)),
    Scenario(name="four adapters, 16 clients", clients=16, requests_each=2, models=ADAPTERS),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """An engine to measure, started."""

    kind: str
    name: str
    engine: Engine
    pid: int
    ready_s: float


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, action="append", required=True)
    parser.add_argument("--envs", type=Path, help="home of the environments, built by `lorry envs install`")
    parser.add_argument("--kind", action="append", choices=sorted(ENGINES), help="repeatable; all of them")
    parser.add_argument("--threads", type=int, action="append", help="of each engine; repeatable, for one of each; 1")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--tries", type=int, default=3, help="how often a disturbed measurement is taken at most")
    parser.add_argument("--idle-wait-s", type=float, default=60, help="how long to wait for an idle machine each time")
    parser.add_argument("--without-adapters", action="store_true", help="start no engine with LoRA; with --only base")
    parser.add_argument("--only", default="", help="only scenarios with this in their name")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to end"))
    asyncio.run(compare(parser.parse_args()))


async def compare(args: argparse.Namespace) -> None:
    """Run all rounds; the servers end with us."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        wanted = () if args.without_adapters else ADAPTERS
        adapters = {name: write_adapter(folder / name, args.model[0], seed) for seed, name in enumerate(wanted)}
        contestants: list[Contestant] = []
        try:
            for kind, threads, model in itertools.product(args.kind or ENGINES, args.threads or [1], args.model):
                try:
                    contestants.append(await launch(settings_of(kind, threads, model, args), adapters))
                except SettingRefused as exc:
                    report(f"left out: {exc}")
                    continue
                await warm_up(contestants[-1], ("base", *adapters))
                pause(contestants[-1])
            show(await run_rounds(contestants, args), contestants)
        finally:
            for contestant in contestants:
                os.killpg(contestant.pid, signal.SIGKILL)


def settings_of(kind: str, threads: int, model: Path, args: argparse.Namespace) -> EngineSettings:
    """Return the settings of a kind, which are the same for all as far as possible."""
    interpreter = args.envs / "envs" / kind / "bin" / "python" if kind in ENVIRONMENTS else None
    return EngineSettings(
        kind=kind,
        interpreter=interpreter,
        base_path=model,
        base_name="base",
        log_path=Path(tempfile.gettempdir()) / f"{kind}-{threads}-{model.name}.log",
        threads=threads,
        max_adapters=0 if args.without_adapters else len(ADAPTERS),
        max_rank=16,
    )


async def launch(settings: EngineSettings, adapters: dict[str, Path]) -> Contestant:
    """Start one engine with the adapters."""
    engine = build_engine(settings, adapters)
    started, before = perf_counter(), set(psutil.Process().children())
    await engine.start()
    ready_s = perf_counter() - started
    (process,) = set(psutil.Process().children()) - before
    name = f"{settings.kind}, {settings.base_path.name}, {settings.threads} thread{'s' if settings.threads > 1 else ''}"
    report(f"{name}: ready after {ready_s:.1f} s")
    return Contestant(kind=settings.kind, name=name, engine=engine, pid=process.pid, ready_s=ready_s)


async def warm_up(contestant: Contestant, names: Iterable[str]) -> None:
    """Let every model answer once."""
    for name in names:
        scenario = Scenario(name="warm up", clients=4, requests_each=1, models=(name,))
        await measure(server_of(contestant), scenario, 8, random.Random(name))


async def run_rounds(contestants: list[Contestant], args: argparse.Namespace) -> dict[tuple[str, str], list[Measured]]:
    """Return what each round measured, by scenario and server."""
    found: dict[tuple[str, str], list[Measured]] = {}
    for number in range(args.rounds):
        for scenario in [one for one in SCENARIOS if args.only in one.name]:
            for contestant in contestants if number % 2 == 0 else contestants[::-1]:
                measured = await measure_quietly(contestant, scenario, args, number)
                found.setdefault((scenario.name, contestant.name), []).append(measured)
                report(f"round {number}, {scenario.name}, {contestant.name}: {measured}")
    return found


async def measure_quietly(
    contestant: Contestant, scenario: Scenario, args: argparse.Namespace, number: int
) -> Measured:
    """Measure, again while others disturb it; the least disturbed one counts."""
    tries: list[Measured] = []
    while len(tries) < args.tries and (not tries or tries[-1].others > DISTURBED):
        await until_idle(args.idle_wait_s)
        async with awake(contestant):
            source = random.Random(f"{number}/{len(tries)}/{scenario.name}")
            tries.append(await measure(server_of(contestant), scenario, args.tokens, source))
    return min(tries, key=lambda one: one.others)


async def until_idle(timeout_s: float) -> None:
    """Wait until the machine did nothing for a second, but no longer than *timeout_s*."""
    started = perf_counter()
    while perf_counter() - started < timeout_s:
        before = busy_seconds()
        await asyncio.sleep(1)
        if busy_seconds() - before < DISTURBED:
            return


def server_of(contestant: Contestant) -> Server:
    """Return the server of *contestant* as its clients see it."""
    return Server(kind=contestant.kind, base="base", url=contestant.engine.base_url, pid=contestant.pid)


@asynccontextmanager
async def awake(contestant: Contestant) -> AsyncIterator[None]:
    """Let it run for a while."""
    os.killpg(contestant.pid, signal.SIGCONT)
    try:
        yield
    finally:
        pause(contestant)


def pause(contestant: Contestant) -> None:
    """Stop all its processes where they are."""
    os.killpg(contestant.pid, signal.SIGSTOP)


def memory_gib(contestant: Contestant) -> float:
    """Return the resident memory of all processes of a server; what they share counts for each."""
    process = psutil.Process(contestant.pid)
    sizes = [one.memory_info().rss for one in (process, *process.children(recursive=True))]
    return float(sum(sizes)) / 1024**3


def show(found: dict[tuple[str, str], list[Measured]], contestants: list[Contestant]) -> None:
    """Print start, memory and medians."""
    report("\n| engine | ready after, s | memory, GiB |\n|---|---|---|")
    for one in contestants:
        report(f"| {one.name} | {one.ready_s:.0f} | {memory_gib(one):.1f} |")
    report("\n| scenario | engine | tokens/s | tokens per CPU second | first token p50, ms |\n|---|---|---|---|---|")
    for scenario in sorted({scenario for scenario, _ in found}):
        for name in [one.name for one in contestants]:
            rounds = found[scenario, name]
            speed = statistics.median(one.tokens_per_s for one in rounds)
            work = statistics.median(one.tokens_per_cpu_s for one in rounds)
            first = statistics.median(one.first_token_s for one in rounds)
            report(f"| {scenario} | {name} | {speed:.1f} | {work:.1f} | {first * 1000:.0f} |")


def report(line: str) -> None:
    """Print at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
