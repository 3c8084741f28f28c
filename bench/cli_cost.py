"""Measure the processor time of `lorry --help` and of the commands that ask a gateway, and list what takes it.

    python bench/cli_cost.py [--runs 7] [--modules 12]

Every command is a process of its own, against a gateway that this program serves from a small registry. Processor
time is user and system time of that process, the median of the runs. Below stand the packages whose import takes most
of the time of `lorry models list`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import sqlalchemy as sa

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.big_registry import fill, settings_in
from gateway.settings import GatewaySettings
from registry import tables
from registry.database import Registry, open_registry
from registry.rollouts.rollout import RolloutPlan, weighted
from tests.gateway.served import ServedGateway

LORRY: Final = ("-c", "from gateway.cli import main; main()")
ADAPTER: Final = "adapter-00000"
HELP_LIMIT_S: Final = 0.35
CLIENT_LIMIT_S: Final = 0.5
HELP: Final = ("--help",)
CLIENT: Final[Sequence[tuple[str, ...]]] = (
    ("models", "list"),
    ("models", "--help"),
    ("adapters", "list"),
    ("adapters", "show", ADAPTER),
    ("rollout", "status", ADAPTER),
    ("rollout", "status", "unknown"),
    ("rollout", "start", "--help"),
    ("rollout", "start"),
    ("jobs", "list"),
    ("train", "sft", "--help"),
    ("replicas",),
    ("status",),
    ("ps",),
    ("chat", "--help"),
    ("completion", "bash"),
    ("keys", "list"),
    ("audit",),
)
LOCAL: Final[Sequence[tuple[str, ...]]] = (("doctor", "--help"), ("envs", "list"), ("keys", "list", "--home"))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--modules", type=int, default=12)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        registry = open_registry(settings_in(Path(scratch)))
        fill(registry, adapters=20, replicas=2)
        _add_revision(registry)
        registry.rollouts.start(ADAPTER, 2, RolloutPlan(steps=weighted(5, 100)), "bench")
        with ServedGateway(GatewaySettings(), registry) as gateway:
            surroundings = {"LORRY_URL": f"http://127.0.0.1:{gateway.port}", "LORRY_HOME": f"{scratch}/home"}
            _report([HELP], HELP_LIMIT_S, args.runs, surroundings)
            _report(CLIENT, CLIENT_LIMIT_S, args.runs, surroundings)
            _report(LOCAL, None, args.runs, surroundings)
            _report_imports(("models", "list"), args.modules, surroundings)
        registry.close()


def _add_revision(registry: Registry) -> None:
    """Give `ADAPTER` a second revision like its first, to roll out."""
    with registry.transactions.write() as tx:
        first = tx.execute(sa.select(tables.revisions).where(tables.revisions.c.adapter == ADAPTER)).one()
        tx.execute(sa.insert(tables.revisions).values({**first._mapping, "number": 2, "alias": None}))


def _report(
    commands: Sequence[Sequence[str]], limit_s: float | None, runs: int, surroundings: Mapping[str, str]
) -> None:
    for words in commands:
        times = [_processor_time_s(words, surroundings) for _ in range(runs)]
        median = statistics.median(times)
        verdict = "" if limit_s is None else f"  limit {limit_s} s{'' if median <= limit_s else ', EXCEEDED'}"
        print(f"{median:6.3f} s  ({min(times):.3f} to {max(times):.3f})  lorry {' '.join(words)}{verdict}")


def _processor_time_s(words: Sequence[str], surroundings: Mapping[str, str]) -> float:
    child = subprocess.Popen(
        [sys.executable, *LORRY, *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | dict(surroundings),
    )
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    return used.ru_utime + used.ru_stime


def _report_imports(words: Sequence[str], most: int, surroundings: Mapping[str, str]) -> None:
    """Print the packages whose own modules take most of the import time of a command."""
    command = [sys.executable, "-X", "importtime", *LORRY, *words]
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | dict(surroundings))
    took: Counter[str] = Counter()
    for line in run.stderr.splitlines():
        own, _, module = line.removeprefix("import time:").split("|")
        if own.strip().isdigit():
            took[module.strip().split(".")[0]] += int(own)
    print(f"import time of lorry {' '.join(words)}: {took.total() / 1000:.0f} ms, of which")
    for package, microseconds in took.most_common(most):
        print(f"{microseconds / 1000:6.1f} ms  {package}")


if __name__ == "__main__":
    main()
