"""Run one gateway for long under mixed clients while adapters come and go, and show whether its memory grows.

    python bench/long_running/hour.py --cache .bench --to FILE.jsonl [--minutes 60] [--clients 64] [--picture FILE.svg]

A gateway process outside of Ray with every feature on, before the mock's engines. Clients are paced, so that all of it
takes less than half of a core. A sample of the process is written every ten seconds. `--only-show` reads FILE.jsonl of
an earlier run. `make natives` compiles the mock engine.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx2

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench.comparison.native import mock_engine
from bench.long_running.churn import Churn
from bench.long_running.clients import Crowd, summary
from bench.long_running.picture import draw
from bench.long_running.samples import Sample, append, read, sample, slope_of
from bench.one_gateway.process import GatewayProcess, gateway_process
from registry.database import open_registry
from registry.settings import RegistrySettings

ENGINES: Final = 2
EVERY_S: Final = 10.0
TIMEOUT_S: Final = 60.0
WARM_SHARE: Final = 1 / 6
"""The part of a run that its slopes leave out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long, with how many clients, and where samples go."""

    minutes: float
    clients: int
    path: Path


def main() -> None:
    """Run, or read an earlier run, and show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=Path(".bench"), help="where the native programs are")
    parser.add_argument("--to", type=Path, required=True, help="file for the samples")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--only-show", action="store_true")
    args = parser.parse_args()
    if not args.only_show:
        args.to.unlink(missing_ok=True)
        plan = Plan(minutes=args.minutes, clients=args.clients, path=args.to)
        with ExitStack() as stack:
            home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            mock = stack.enter_context(mock_engine(args.cache, ENGINES))
            url = f"sqlite:///{home / 'registry.db'}"
            gateway = stack.enter_context(gateway_process(home, url, mock.ports))
            asyncio.run(_run(plan, gateway, home, url))
    samples = read(args.to)
    warm_s = samples[-1].at_s * WARM_SHARE
    _show(samples, warm_s)
    if args.picture:
        draw(samples, args.picture, warm_s)


async def _run(plan: Plan, gateway: GatewayProcess, home: Path, url: str) -> None:
    registry = open_registry(RegistrySettings(url=url, artifacts=home / "artifacts"))
    crowd = Crowd(port=gateway.port, key=gateway.key)
    churn = Churn(registry, home, crowd)
    running = [asyncio.create_task(churn.control()), asyncio.create_task(churn.run())]
    running += [asyncio.create_task(crowd.behave(seed)) for seed in range(plan.clients)]
    try:
        await _watch(plan, gateway, crowd, running)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        registry.close()
    counts = [f"{count:>9,} {what}" for what, count in churn.done.items()]
    sys.stdout.write("\n".join([*summary(crowd), *counts, ""]))


async def _watch(plan: Plan, gateway: GatewayProcess, crowd: Crowd, running: Sequence[asyncio.Task[None]]) -> None:
    """Take a sample now and then until the time is over; what ends earlier raises why."""
    began = time.monotonic()
    headers = {"authorization": f"Bearer {gateway.key}"}
    url = f"http://127.0.0.1:{gateway.port}"
    async with httpx2.AsyncClient(base_url=url, headers=headers, timeout=TIMEOUT_S, trust_env=False) as http:
        while (at_s := time.monotonic() - began) < 60 * plan.minutes:
            asked = time.monotonic()
            metrics = (await http.get("/metrics")).raise_for_status().text
            taken = sample(
                gateway,
                at_s,
                requests=crowd.ended.total(),
                failed=crowd.failed.total(),
                served=len(crowd.served),
                metrics=len(metrics),
                scrape_s=time.monotonic() - asked,
            )
            append(plan.path, taken)
            done, _ = await asyncio.wait(running, timeout=EVERY_S, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()


def _show(samples: Sequence[Sample], warm_s: float) -> None:
    first, last = next(each for each in samples if each.at_s >= warm_s), samples[-1]
    seconds = last.at_s - samples[0].at_s
    share = 100 * (last.processor_s - samples[0].processor_s) / seconds
    what = f"{last.requests:,} requests, {last.failed} failed, {share:.1f} % of a core in the gateway"
    lines = [f"{seconds / 60:.0f} minutes, {what}"]
    for name in ("resident_mb", "proportional_mb", "descriptors", "threads", "metrics_bytes"):
        slope = slope_of(samples, name, warm_s)
        grown = "" if slope is None else f", {slope.an_hour:+.2f} an hour (95 %: {slope.low:+.2f} to {slope.high:+.2f})"
        highest = max(getattr(each, name) for each in samples)
        lines.append(
            f"{name:<16} {getattr(first, name):,.1f} -> {getattr(last, name):,.1f}, at most {highest:,.1f}{grown}"
        )
    sys.stdout.write("\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
