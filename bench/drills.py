"""Count what 64 clients see when parts of Lorry fail: kills, hangs, errors, a registry that is away, updates.

    make drills [ARGS="--only mock: --json FILE"]

Half of the clients stream, half wait for whole answers, and none tries again. `mock:` drills have two mock engines,
each a process of its own, and paced answers of 160 ms; `engine:` drills two replicas of the transformers engine with
the bundled model. Nothing but processes of the `lorry up` that the drill started is touched.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.comparison.tables import number, table
from bench.drilling.clients import Clients
from bench.drilling.faults import AFTER_S, DRILLS, Drill
from bench.drilling.leaving import Left, leave
from bench.drilling.outcome import Outcome, outcome_of
from bench.drilling.stage import Stage, engine_stage, mock_stage

Stages = Callable[[], AbstractContextManager[Stage]]
LEAVING: Final = "clients that leave"


def main() -> None:
    """Run the drills that were asked for and print what they came to."""
    args = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was started is ended on the way out
    home = args.cache / "home-of-drills"
    stages: dict[str, Stages] = {
        "mock": lambda: mock_stage(args.cache, home),
        "mock-postgres": lambda: mock_stage(args.cache, home, on_postgres=True),
        "engine": lambda: engine_stage(args.cache, home),
        "engine-postgres": lambda: engine_stage(args.cache, home, on_postgres=True),
    }
    outcomes: dict[str, Outcome] = {}
    left: dict[str, Left] = {}
    for kind, stage_of in stages.items():
        drills = [drill for drill in DRILLS if drill.stage == kind and _is_asked(drill.name, args.only)]
        leaves = not kind.endswith("-postgres") and _is_asked(f"{kind}: {LEAVING}", args.only)
        if not drills and not leaves:
            continue
        _say(f"Starting Lorry for {kind}")
        with stage_of() as stage:
            for drill in drills:
                _say(drill.name)
                outcomes[drill.name] = _run(drill, stage, args.cache)
                _say(_outcomes({drill.name: outcomes[drill.name]}))
            if leaves:
                left[f"{kind}: {LEAVING}"] = leave(stage)
    sys.stdout.write("\n\n".join([_outcomes(outcomes), _left(left)]) + "\n")
    if args.json:
        told = {name: asdict(one) for name, one in outcomes.items()} | {name: asdict(one) for name, one in left.items()}
        args.json.write_text(json.dumps(told, indent=1))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="where programs are, and a home of Lorry")
    parser.add_argument("--only", default="", help="drills whose names contain one of these, by commas")
    parser.add_argument("--json", type=Path, help="file for the figures")
    return parser.parse_args()


def _is_asked(name: str, only: str) -> bool:
    return any(part in name for part in only.split(","))


def _run(drill: Drill, stage: Stage, folder: Path) -> Outcome:
    clients = Clients(stage.programs, stage.asking, folder)
    try:
        time.sleep(stage.before_s)
        fault_at = time.monotonic()
        drill.act(stage)
        _say(f"  over after {time.monotonic() - fault_at:.1f} s")
        time.sleep(AFTER_S)
        return outcome_of(clients.end(), fault_at)
    finally:
        clients.stop()


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _outcomes(found: dict[str, Outcome]) -> str:
    columns = ("drill", "sent", "failed without a byte", "error events", "cut or stuck", "worst s", "normal after s")
    return table(columns, [_row(name, one) for name, one in found.items()]) if found else ""


def _row(name: str, one: Outcome) -> Sequence[str]:
    unanswered = f"{one.unanswered} ({one.why})" if one.unanswered else "0"
    broken, events = str(one.broken), str(one.error_events)
    return name, str(one.sent), unanswered, events, broken, number(one.worst_s), number(one.normal_after_s)


def _left(found: dict[str, Left]) -> str:
    rows = [
        [name, str(one.running_before), str(one.running_after), f"{one.stopped_after_s:.3f}"]
        for name, one in found.items()
    ]
    return table(("drill", "generating before", "after", "stopped after s"), rows) if rows else ""


if __name__ == "__main__":
    main()
