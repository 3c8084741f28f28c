"""Our gateway, the mock engine behind it, and other gateways before the same engine, measured in turn in one run.

    make bench [ARGS="--quick --only '16 clients' --targets direct,lorry,smg --rounds 6 --json FILE"]

Ratios within a run are what counts: the machine's own speed, and what else it does, are in all figures alike. Tables go
to stdout in Markdown.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.comparison.cases import CASES, Case
from bench.comparison.environments import environment
from bench.comparison.figures import DIRECT, OURS, Runs, verdicts
from bench.comparison.lorry import Lorry
from bench.comparison.measuring import Plan, Run, measure
from bench.comparison.memory import Memory, memory_of
from bench.comparison.native import mock_engine
from bench.comparison.tables import show_case, show_memory, show_verdicts
from bench.comparison.targets import PEERS, Direct, Peer, Target

ENGINES: Final = 2
"""Ports of the mock: with two engines there is something to balance."""
NAMES: Final = (DIRECT, OURS, *PEERS)
QUICK_ROUNDS: Final = 1
QUICK_SCALE: Final = 0.5


def main() -> None:
    """Measure, print, and write what was asked for."""
    args = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was started is ended on the way out
    cases = [case for case in CASES if not args.only or any(part in case.name for part in args.only.split(","))]
    if not cases:
        raise SystemExit(f"--only {args.only}: no such case; there are {'; '.join(case.name for case in CASES)}")
    names = [name for name in NAMES if name in args.targets.split(",")]
    rounds = args.rounds or (QUICK_ROUNDS if args.quick else 4)
    plan = Plan(cases=cases, rounds=rounds, scale=QUICK_SCALE if args.quick else 1.0, programs=args.cache)
    runs, memory = _measured(plan, names, args.cache)
    _show(runs, cases, names, memory)
    if args.json:
        found = [asdict(one) for one in verdicts(runs, cases, [name for name in names if name in PEERS])]
        told = {"runs": [asdict(run) for run in runs.all], "verdicts": found, "memory": [asdict(one) for one in memory]}
        args.json.write_text(json.dumps(told, indent=1))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="where programs and the peers' environments are")
    parser.add_argument("--only", default="", help="cases whose names contain one of these, by commas")
    parser.add_argument("--targets", default=",".join(NAMES), help="of these, by commas")
    parser.add_argument("--rounds", type=int, help="how often each case is run (default 4)")
    parser.add_argument("--quick", action="store_true", help="one short round: to see that it works")
    parser.add_argument("--json", type=Path, help="file for every run and verdict")
    args = parser.parse_args()
    if unknown := sorted(set(args.targets.split(",")) - set(NAMES)):
        parser.error(f"--targets {unknown[0]}: not one of {', '.join(NAMES)}")
    return args


def _measured(plan: Plan, names: Sequence[str], cache: Path) -> tuple[Runs, list[Memory]]:
    """Return all runs, and the memory of each target after them."""
    for name in names:
        if name in PEERS:
            environment(name, cache)
    total = plan.rounds * len(plan.cases) * len(names)
    with mock_engine(plan.programs, ENGINES) as mock, _started(names, cache, mock.ports) as targets:
        found: list[Run] = []
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
            line = bar.add_task("measuring", total=total)
            for run in measure(plan, targets, mock):
                found.append(run)
                bar.update(line, advance=1, description=f"{run.case}: {run.target}")
        return Runs(all=found), [memory_of(target) for target in targets if target.name != DIRECT]


@contextmanager
def _started(names: Sequence[str], cache: Path, ports: Sequence[int]) -> Iterator[list[Target]]:
    """Provide all targets, which end with the block."""
    with ExitStack() as stack:
        targets: list[Target] = []
        for name in names:
            sys.stderr.write(f"Starting {name}\n")
            target = _start(name, cache, ports)
            stack.callback(target.stop)
            targets.append(target)
        yield targets


def _start(name: str, cache: Path, ports: Sequence[int]) -> Target:
    if name == DIRECT:
        return Direct(ports[0])
    return Lorry(cache / "home", ports) if name == OURS else Peer(name, cache, ports)


def _show(runs: Runs, cases: Sequence[Case], names: Sequence[str], memory: Sequence[Memory]) -> None:
    parts = [show_case(runs, case, names) for case in cases]
    if found := verdicts(runs, cases, [name for name in names if name in PEERS]):
        parts.append(show_verdicts(found))
    sys.stdout.write("\n\n".join([*parts, show_memory(memory)]) + "\n")


if __name__ == "__main__":
    main()
