"""`python -m tests.trainer.together.rank_program RANK SIZE ORDER...`: one process of runs that several make together.

The runs come one after the other, each in a fork of one process, which imports the libraries once. The first process
writes what it reports beside each order.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from registry.contracts.job_spec import JobSpec
from registry.contracts.parallel_spec import DEEPSPEED
from tests.trainer.together.shared_runs import REPORTS, STOPS_AT
from trainer.child.process import leave_out_libraries
from trainer.order import ChildOrder
from trainer.progress import Progress, Stepped
from trainer.recipes import load_recipe


def main() -> None:
    """Carry out the orders, each in a process of its own as a worker does, which has the libraries already."""
    rank, size, *orders = sys.argv[1:]
    os.environ |= {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": size,
        "LOCAL_WORLD_SIZE": size,
        "MASTER_ADDR": "127.0.0.1",
        "GLOO_SOCKET_IFNAME": "lo",
    }
    paths = [Path(order) for order in orders]
    needed = frozenset[str]().union(*(order_at(path).spec.libraries() for path in paths))
    leave_out_libraries(needed)
    import_what_runs_need(needed)
    gc.freeze()  # else each fork walks, and copies the pages of, all objects that it inherits
    for path in paths:
        if (run := os.fork()) == 0:
            carry_out(path, rank)
            return
        if code := os.waitstatus_to_exitcode(os.waitpid(run, 0)[1]):
            sys.exit(f"process {rank} of {path} ended with {code}")


def import_what_runs_need(libraries: frozenset[str]) -> None:
    """Import, once for all forks, what every run needs, and DeepSpeed if one does: accelerate looks for it in all."""
    import transformers

    import trainer.training.run  # noqa: F401

    _ = transformers.LlamaForCausalLM, transformers.PreTrainedTokenizerFast
    if DEEPSPEED in libraries:
        import deepspeed  # noqa: F401


def carry_out(path: Path, rank: str) -> None:
    """Carry out the order at *path*."""
    order = order_at(path)
    reported: list[Progress] = []
    outcome = load_recipe(order.spec)(order, reported.append, stop_of(path, reported))
    if rank == "0":
        lines = [each.model_dump_json() for each in (*reported, outcome)]
        (order.attempt_folder / REPORTS).write_text("".join(f"{line}\n" for line in lines))


def order_at(path: Path) -> ChildOrder[Any]:
    """Return the order at *path*."""
    return ChildOrder[JobSpec].model_validate_json(path.read_bytes())


def stop_of(path: Path, reported: list[Progress]) -> Callable[[], bool]:
    """Return when to stop: after the step that the name of the order ends with, if it does."""
    _, has_stop, step = path.stem.partition(STOPS_AT)
    return lambda: bool(has_stop) and sum(isinstance(each, Stepped) for each in reported) >= int(step)


if __name__ == "__main__":
    main()
