"""Fine-tuning jobs of Lorry beside the same jobs by TRL and ms-swift, in turn: wall time, processor time, peak memory.

    make bench-training [ARGS="--rounds 3 --only '1 step' --peers trl --json FILE"]

Each job is a process of its own on one thread, from its command to the saved adapter (Lorry: from the request to the
published revision, by a gateway and a worker that run already). Rounds alternate the order. A ratio is the median of
the rounds' ratios, since what else the machine does is in both figures alike. The table goes to stdout in Markdown.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.comparison.environments import environment
from bench.training.cases import CASES, Bound, TrainingCase
from bench.training.commands import COMMANDS, OURS, process_environment
from gateway.pools.bundled import unpack_bundled

PEERS: Final = tuple(name for name in COMMANDS if name != OURS)
_LOSS: Final = re.compile(r"'loss': '?([0-9.]+)")
"""A step in ms-swift's output."""
FIGURES: Final = ("wall_s", "processor_s", "memory_mb")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRun:
    """The time and memory of one job."""

    case: str
    trainer: str
    round: int
    wall_s: float
    processor_s: float
    memory_mb: float
    """The most of any one process."""
    first_loss: float | None
    """To see that the trainers do the same."""


def main() -> None:
    """Measure, print, and write what was asked for."""
    args = _arguments()
    cases = [case for case in CASES if args.only in case.name]
    if not cases:
        raise SystemExit(f"--only {args.only}: no such case; there are {'; '.join(case.name for case in CASES)}")
    runs = []
    for run in _measured(cases, args.peers.split(","), args.rounds, args.cache):
        runs.append(run)
        told = f"{run.wall_s:.1f} s, {run.processor_s:.1f} processor s, {run.memory_mb:.0f} MB, loss {run.first_loss}"
        sys.stderr.write(f"{run.case}: {run.trainer}: {told}\n")
    for case in cases:
        sys.stdout.write(_table(case, [run for run in runs if run.case == case.name]) + "\n")
    if args.json:
        args.json.write_text(json.dumps([asdict(run) for run in runs], indent=1))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="where base model and the peers' environments are")
    parser.add_argument("--only", default="", help="cases whose names contain this")
    parser.add_argument("--peers", default=",".join(PEERS), help="of these, by commas")
    parser.add_argument("--rounds", type=int, default=3, help="how often each job is done (default 3)")
    parser.add_argument("--json", type=Path, help="file for every run")
    args = parser.parse_args()
    if unknown := sorted(set(args.peers.split(",")) - set(PEERS)):
        parser.error(f"--peers {unknown[0]}: not one of {', '.join(PEERS)}")
    return args


def _measured(cases: Sequence[TrainingCase], peers: Sequence[str], rounds: int, cache: Path) -> Iterator[JobRun]:
    model = unpack_bundled(cache.absolute(), lambda done, total: None)
    places = {OURS: Path(sys.prefix)} | {name: environment(name, cache.absolute(), whole=False) for name in peers}
    for turn in range(rounds):
        for case in cases:
            names = [OURS, *(bound.peer for bound in case.bounds if bound.peer in peers)]
            for name in names if turn % 2 == 0 else reversed(names):
                yield _run(case, name, turn, (places[name], model))


def _run(case: TrainingCase, name: str, turn: int, places: tuple[Path, Path]) -> JobRun:
    place, model = places
    folder = Path(tempfile.mkdtemp(prefix=f"bench-{name}-"))
    try:
        order = case.order(folder, model)
        path = folder / "order.json"
        path.write_text(json.dumps(order))
        output = folder / "output.txt"
        began = time.monotonic()
        with output.open("wb") as log:
            process = subprocess.Popen(
                COMMANDS[name](path, order, place),
                env=process_environment(name, place, folder),
                stdout=log,
                stderr=log,
                cwd=folder,
            )
            _, status, used = os.wait4(process.pid, 0)
        wall_s = time.monotonic() - began
        text = output.read_text(errors="replace")
        if status != 0:
            raise SystemExit(f"{name} failed in {case.name!r}:\n{text[-2000:]}")
        told = read_told(text)
        return JobRun(
            case=case.name,
            trainer=name,
            round=turn,
            wall_s=told.get("wall_s", wall_s),
            processor_s=told.get("processor_s", used.ru_utime + used.ru_stime),
            memory_mb=told.get("memory_mb", used.ru_maxrss / 1024),
            first_loss=next(iter(told["losses"]), None),
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def read_told(text: str) -> dict[str, Any]:
    """Return the last line of JSON in what a program printed, with `losses`: ms-swift prints no such line."""
    for line in reversed(text.splitlines()):
        with contextlib.suppress(ValueError):
            if isinstance(found := json.loads(line), dict):
                return found
    return {"losses": [float(one) for one in _LOSS.findall(text)]}


def _table(case: TrainingCase, runs: Sequence[JobRun]) -> str:
    lines = [
        f"**{case.name}**",
        "",
        "| trainer | wall s | processor s | peak MB | first loss |",
        "|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(run.trainer for run in sorted(runs, key=lambda run: run.trainer != OURS)):
        own = [run for run in runs if run.trainer == name]
        medians = [statistics.median(getattr(run, figure) for run in own) for figure in FIGURES]
        loss = "" if own[0].first_loss is None else f"{own[0].first_loss:.4f}"
        lines.append(f"| {name} | {medians[0]:.1f} | {medians[1]:.1f} | {medians[2]:,.0f} | {loss} |")
    told = [verdict(bound, runs) for bound in case.bounds if any(run.trainer == bound.peer for run in runs)]
    return "\n".join([*lines, "", *told, ""])


def verdict(bound: Bound, runs: Sequence[JobRun]) -> str:
    """Return the ratios of ours to the peer of *bound*, with what was wanted of them."""
    wanted = zip(FIGURES, (bound.wall, bound.processor, bound.memory), strict=True)
    told = []
    for figure, most in wanted:
        ours, theirs = ([getattr(run, figure) for run in runs if run.trainer == name] for name in (OURS, bound.peer))
        ratio = statistics.median(one / other for one, other in zip(ours, theirs, strict=True))
        judged = "" if most is None else f" (at most {most:g}: {'met' if ratio <= most else 'missed'})"
        told.append(f"{figure.rpartition('_')[0]} {ratio:.2f}{judged}")
    return f"Lorry by {bound.peer}: {', '.join(told)}"


if __name__ == "__main__":
    main()
