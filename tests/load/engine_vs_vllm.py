"""Our engine against vLLM on this machine, in one run: tokens per second and time to the first token.

    python tests/load/engine_vs_vllm.py --model DIR --vllm-python VENV/bin/python [--vllm-bind auto --vllm-bind 0-1]

Every server is started once and all but the measured one are stopped (SIGSTOP) while it is measured; rounds go over the
servers in turn, forwards and backwards, and medians over the rounds are compared.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[2]))

from engines.openai_server import OpenAiServer
from engines.process import ChildProcess
from engines.settings import EngineSettings
from engines.transformers.driver import free_port, server_command, server_environment
from tests.engines.random_adapter import write_adapter
from tests.load.streaming import Measured, Scenario, Server, busy_seconds, measure

ADAPTERS: Final = ("a1", "a2", "a3", "a4")
START_TIMEOUT_S: Final = 400
DISTURBED: Final = 0.15
"""Processors kept busy by others, from which on a measurement is repeated."""
VLLM_FLAGS: Final = (
    *("--served-model-name", "base", "--dtype", "float32", "--max-model-len", "2048", "--max-num-seqs", "16"),
    *("--enable-lora", "--max-lora-rank", "16", "--max-loras", "4"),
)


SCENARIOS: Final = (
    Scenario(name="base, 1 client", clients=1, requests_each=3, models=("base",)),
    Scenario(name="base, 16 clients", clients=16, requests_each=2, models=("base",)),
    Scenario(name="one adapter, 1 client", clients=1, requests_each=3, models=("a1",)),
    Scenario(name="one adapter, 16 clients", clients=16, requests_each=2, models=("a1",)),
    Scenario(name="four adapters, 16 clients", clients=16, requests_each=2, models=ADAPTERS),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """A server to measure, started."""

    name: str
    url: str
    child: ChildProcess


def main() -> None:
    """Measure and print a table and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--vllm-python", type=Path, help="interpreter with vLLM; without it only ours is measured")
    parser.add_argument("--vllm-bind", action="append", help="VLLM_CPU_OMP_THREADS_BIND, repeatable; auto")
    parser.add_argument("--threads", type=int, action="append", help="threads of our engine, repeatable; default 1")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--tries", type=int, default=3, help="how often a disturbed measurement is taken at most")
    parser.add_argument("--idle-wait-s", type=float, default=60, help="how long to wait for an idle machine each time")
    parser.add_argument("--only", default="", help="only scenarios with this in their name")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to end"))
    asyncio.run(compare(parser.parse_args()))


async def compare(args: argparse.Namespace) -> None:
    """Run all rounds; the servers end with us."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        paths = [write_adapter(folder / name, args.model, seed) for seed, name in enumerate(ADAPTERS)]
        contestants: list[Contestant] = []
        try:
            async for contestant in start_all(args, folder):
                contestants.append(contestant)
                await prepare(contestant, paths)
                pause(contestant)
            show(await run_rounds(contestants, args), [one.name for one in contestants])
        finally:
            for contestant in contestants:
                contestant.child.kill()


async def start_all(args: argparse.Namespace, folder: Path) -> AsyncIterator[Contestant]:
    """Start each server, one after the other."""
    for threads in args.threads or [1]:
        port = free_port("127.0.0.1")
        settings = EngineSettings(base_path=args.model, base_name="base", log_path=folder / "ours.log", threads=threads)
        command, environment = server_command(settings, port), server_environment(settings)
        yield await launch(f"ours, {threads} thread(s)", command, environment, port, settings.log_path)
    for bind in (args.vllm_bind or ["auto"]) if args.vllm_python else []:
        port = free_port("127.0.0.1")
        module = [str(args.vllm_python), "-m", "vllm.entrypoints.openai.api_server"]
        command = [*module, "--model", str(args.model), "--host", "127.0.0.1", "--port", str(port), *VLLM_FLAGS]
        environment = {
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
            "VLLM_CPU_OMP_THREADS_BIND": bind,
            "HF_HUB_OFFLINE": "1",
        }
        yield await launch(f"vLLM, bind {bind}", command, environment, port, folder / f"vllm-{bind}.log")


async def launch(
    name: str, command: Sequence[str], environment: dict[str, str], port: int, log_path: Path
) -> Contestant:
    """Start one server and wait until it is healthy."""
    url = f"http://127.0.0.1:{port}"
    child = await ChildProcess.spawn(command, environment, log_path)
    server = OpenAiServer(url, health_timeout_s=5, admin_timeout_s=60)
    started = perf_counter()
    try:
        while not await server.is_healthy():
            if not child.is_alive or perf_counter() - started > START_TIMEOUT_S:
                child.kill()
                raise SystemExit(f"{name} did not start:\n{child.last_log_lines(60)}")
            await asyncio.sleep(0.2)
    finally:
        await server.aclose()
    report(f"{name}: healthy after {perf_counter() - started:.1f} s")
    return Contestant(name=name, url=url, child=child)


async def prepare(contestant: Contestant, paths: Sequence[Path]) -> None:
    """Load the adapters and warm every one up."""
    server = OpenAiServer(contestant.url, health_timeout_s=5, admin_timeout_s=300)
    for path in paths:
        await server.load_adapter(path.name, path)
    await server.aclose()
    for name in ("base", *ADAPTERS):
        warm_up = Scenario(name="warm up", clients=4, requests_each=1, models=(name,))
        await measure(server_of(contestant), warm_up, 8, random.Random(name))


async def run_rounds(contestants: list[Contestant], args: argparse.Namespace) -> dict[tuple[str, str], list[Measured]]:
    """(scenario, server) -> what each round measured."""
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
    """What the clients need to know of it."""
    return Server(url=contestant.url, pid=contestant.child.pid)


@asynccontextmanager
async def awake(contestant: Contestant) -> AsyncIterator[None]:
    """Let it run for a while."""
    os.killpg(contestant.child.pid, signal.SIGCONT)
    try:
        yield
    finally:
        pause(contestant)


def pause(contestant: Contestant) -> None:
    """Stop all its processes where they are."""
    os.killpg(contestant.child.pid, signal.SIGSTOP)


def show(found: dict[tuple[str, str], list[Measured]], names: list[str]) -> None:
    """Print medians, and each of ours against whichever vLLM is better in that figure."""
    report("\n| scenario | server | tokens/s | tokens per CPU second | first token p50, ms |\n|---|---|---|---|---|")
    others = [name for name in names if name.startswith("vLLM")]
    for scenario in sorted({scenario for scenario, _ in found}):
        speed = {name: statistics.median(one.tokens_per_s for one in found[scenario, name]) for name in names}
        work = {name: statistics.median(one.tokens_per_cpu_s for one in found[scenario, name]) for name in names}
        first = {name: statistics.median(one.first_token_s for one in found[scenario, name]) for name in names}
        for name in names:
            figures = f"{speed[name]:.1f} | {work[name]:.1f} | {first[name] * 1000:.0f}"
            report(f"| {scenario} | {name} | {figures} |")
        for name in [name for name in names if others and name not in others]:
            ratios = [speed[name] / max(speed[other] for other in others)]
            ratios.append(work[name] / max(work[other] for other in others))
            ratios.append(first[name] / min(first[other] for other in others))
            report(
                f"| {scenario} | **{name} : better vLLM** | " + " | ".join(f"**{one:.2f}**" for one in ratios) + " |"
            )


def report(line: str) -> None:
    """Print at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
