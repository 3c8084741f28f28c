"""`python -m trainer.child ORDER DESCRIPTOR` carries out one order and reports on the descriptor.

The child ends with its worker, however the worker dies. SIGTERM asks it to stop at a checkpoint.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path
from threading import Event

from registry.contracts.job_spec import JobSpec
from registry.errors import TrainingFileInvalid
from trainer.child.base_folder import BaseFolder
from trainer.child.process import go_behind, leave_out_libraries
from trainer.errors import JobFailed
from trainer.faults import failure_of
from trainer.order import ChildOrder
from trainer.processes.death import die_with
from trainer.progress import ProgressPipe, RecipeFailed, RecipeFinished, RecipeStopped, Report
from trainer.ranks.rank_process import is_first, parent_of, write_failure
from trainer.ranks.start import start_ranks
from trainer.recipes import load_recipe
from trainer.tracking.tracked_report import tracked

log = logging.getLogger(__name__)


def main() -> int:
    """Carry out the order and return the exit code: 0 once the outcome was reported."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    order = ChildOrder[JobSpec].model_validate_json(Path(sys.argv[1]).read_bytes())
    die_with(parent_of(os.environ, order.worker_pid))
    stop = Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the worker, which sends SIGTERM
    go_behind(order.nice)
    pipe = ProgressPipe(int(sys.argv[2]))
    leave_out_libraries(order.spec.libraries())
    try:
        pipe.send(_carry_out(order, pipe, stop))
    # The worker is gone, and nobody is there to report to.
    except BrokenPipeError:
        return 1
    except Exception as exc:  # outermost loop of this process
        if not isinstance(exc, JobFailed | TrainingFileInvalid):
            log.exception("the recipe failed")
        return _report_failure(order, pipe, failure_of(exc))
    return 0


def _report_failure(order: ChildOrder[JobSpec], pipe: ProgressPipe, failed: RecipeFailed) -> int:
    """Report to the worker, or leave the reason to the first process of the job; return the exit code."""
    if is_first(os.environ):
        pipe.send(failed)
        return 0
    write_failure(order.attempt_folder, int(os.environ["RANK"]), failed)
    return 1


def _carry_out(order: ChildOrder[JobSpec], pipe: ProgressPipe, stop: Event) -> RecipeFinished | RecipeStopped:
    """Return the outcome; `JobFailed` if the base model or an input is not, or does not stay, as the job names it."""
    if not is_first(os.environ):
        # The first process alone grades, and alone has inherited the way to the worker.
        own = order.model_copy(update={"model_requests": None})
        return load_recipe(order.spec)(own, pipe.send, stop.is_set)
    with BaseFolder(order.base_path).unchanged(order), tracked(order, pipe.send) as report:
        outcome = report.outcome = _train(order, pipe, report, stop)
    return outcome


def _train(
    order: ChildOrder[JobSpec], pipe: ProgressPipe, report: Report, stop: Event
) -> RecipeFinished | RecipeStopped:
    """Return the outcome of the recipe, by several processes where the job asks for them."""
    if order.spec.process_count() == 1:
        return load_recipe(order.spec)(order, report, stop.is_set)
    ranks = start_ranks(Path(sys.argv[1]), order, report, stop.is_set)
    if ranks is None:
        return RecipeStopped(step=0)
    ranks.watch(pipe.send)
    with ranks.blamed():
        return load_recipe(order.spec)(order, report, stop.is_set)


if __name__ == "__main__":
    sys.exit(main())
