"""`python -m trainer.child ORDER DESCRIPTOR` carries out one order and reports on the descriptor.

The child ends with its worker, however the worker dies. SIGTERM asks it to stop at a checkpoint.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
from pathlib import Path
from threading import Event
from typing import Final

from registry.artifacts import folder_digest, is_intact
from registry.contracts.job_spec import JobSpec
from registry.contracts.parallel_spec import DEEPSPEED
from registry.contracts.weights_spec import LIBRARIES
from registry.errors import TrainingFileInvalid
from trainer.errors import JobFailed
from trainer.faults import failure_of
from trainer.order import ChildOrder
from trainer.progress import ProgressPipe, RecipeFailed, RecipeFinished, RecipeStopped, Report
from trainer.ranks.rank_process import is_first, parent_of, write_failure
from trainer.ranks.start import start_ranks
from trainer.recipes import load_recipe
from trainer.tracking.tracked_report import tracked

log = logging.getLogger(__name__)

PR_SET_PDEATHSIG: Final = 1


def main() -> int:
    """Carry out the order and return the exit code: 0 once the outcome was reported."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    order = ChildOrder[JobSpec].model_validate_json(Path(sys.argv[1]).read_bytes())
    _die_with(parent_of(os.environ, order.worker_pid))
    stop = Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the worker, which sends SIGTERM
    os.nice(order.nice)
    pipe = ProgressPipe(int(sys.argv[2]))
    _leave_out_libraries(order.spec)
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
    _check_base(order)
    before = _signature(order.base_path)
    with tracked(order, pipe.send) as report:
        outcome = report.outcome = _train(order, pipe, report, stop)
    # Weights are mapped and rows may be read twice, so a change on the way may be in the result.
    if _signature(order.base_path) != before:
        _check_base(order)
    for field, path in order.inputs.items():
        if not is_intact(path):
            raise JobFailed("file_not_readable", f"the bytes of {field} changed while the job was running", field)
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


def _signature(folder: Path) -> list[tuple[str, int, int, int]]:
    """Return what changes of the folder's files when somebody writes to one: a hint, as it is cheap to forge."""
    files = [(path, path.stat()) for path in sorted(folder.rglob("*")) if path.is_file()]
    return [(str(path), stat.st_size, stat.st_mtime_ns, stat.st_ino) for path, stat in files]


def _leave_out_libraries(spec: JobSpec) -> None:
    """Hide the optional libraries that *spec* does not need: PEFT imports them where they are, which takes a second."""
    for name in {*LIBRARIES.values(), DEEPSPEED} - spec.libraries():
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # None says that there is no such module


def _check_base(order: ChildOrder[JobSpec]) -> None:
    """Raise `JobFailed` unless the folder of the base model holds the weights that the spec names."""
    found = folder_digest(order.base_path)
    if found != order.spec.base_digest:
        message = f"the folder of base model {order.spec.base} has changed: its digest is {found[:12]}, "
        raise JobFailed("base_changed", message + f"the job asks for {order.spec.base_digest[:12]}", "model")


def _die_with(worker_pid: int) -> None:
    """Have the kernel kill this process when the worker dies."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != worker_pid:  # the worker died before the call, so no signal will come
        os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
