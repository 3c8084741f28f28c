"""`python -m tests.trainer.together.rank_program RANK SIZE ORDER...`: one process of runs that several make together.

The runs come one after the other in one process, which imports the libraries once. The first process writes what it
reports beside each order.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from accelerate.state import AcceleratorState, GradientState

from registry.contracts.job_spec import JobSpec
from tests.trainer.together.shared_runs import REPORTS, STOPS_AT
from trainer.order import ChildOrder
from trainer.progress import Progress, Stepped
from trainer.recipes import load_recipe


def main() -> None:
    """Carry out the orders."""
    rank, size, *orders = sys.argv[1:]
    os.environ |= {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": size,
        "LOCAL_WORLD_SIZE": size,
        "MASTER_ADDR": "127.0.0.1",
        "GLOO_SOCKET_IFNAME": "lo",
    }
    for path in map(Path, orders):
        order = ChildOrder[JobSpec].model_validate_json(path.read_bytes())
        reported: list[Progress] = []
        outcome = load_recipe(order.spec)(order, reported.append, stop_of(path, reported))
        if rank == "0":
            lines = [each.model_dump_json() for each in (*reported, outcome)]
            (order.attempt_folder / REPORTS).write_text("".join(f"{line}\n" for line in lines))
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()


def stop_of(path: Path, reported: list[Progress]) -> Callable[[], bool]:
    """Return when to stop: after the step that the name of the order ends with, if it does."""
    _, has_stop, step = path.stem.partition(STOPS_AT)
    return lambda: bool(has_stop) and sum(isinstance(each, Stepped) for each in reported) >= int(step)


if __name__ == "__main__":
    main()
