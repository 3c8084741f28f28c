"""The light jobs of a resident child: a thread for each, all on one base model, one step of each in turn."""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Lock, Thread, current_thread

from registry.contracts.fine_tune_spec import FineTuneSpec
from registry.errors import TrainingFileInvalid
from trainer.child.base_folder import BaseFolder
from trainer.child.requests import ResidentRequest
from trainer.errors import JobDropped, JobFailed
from trainer.faults import failure_of
from trainer.order import ChildOrder
from trainer.progress import Progress, ProgressPipe, RecipeFinished, RecipeStopped, Stepped
from trainer.recipes import load_objective
from trainer.training.beside.resident_base import ResidentBase, SharedProcess
from trainer.training.beside.turns import Turn, Turns, keep_accelerate_by_thread
from trainer.training.run import run_training

log = logging.getLogger(__name__)


class _RunningJob:
    """A job at work, with the requests of the worker about it."""

    def __init__(self, order_path: Path, descriptor: int) -> None:
        self.order_path = order_path
        self.descriptor = descriptor
        self.stop = Event()
        self.dropped = Event()


class ResidentJobs:
    """All jobs of this process; `obey` is called by one thread."""

    def __init__(self, stop: Event, at_once: int) -> None:
        """Setting *stop* stops every job at its next step; *at_once* jobs compute at a time."""
        keep_accelerate_by_thread()
        self._stop = stop
        self._turns = Turns(at_once)
        self._base: tuple[Path, BaseFolder, ResidentBase] | None = None
        self._lock = Lock()
        self._running: dict[Path, _RunningJob] = {}
        self._began = 0

    def obey(self, request: ResidentRequest, descriptors: Sequence[int]) -> None:
        """Do as the worker asks; a request about a job that has ended asks for nothing."""
        if request.act == "begin":
            job = _RunningJob(request.order_path, descriptors[0])
            with self._lock:
                self._running[job.order_path] = job
                self._began += 1
            Thread(target=self._work, args=(job,), name=job.order_path.parent.parent.name, daemon=True).start()
            return
        with self._lock:
            asked = self._running.get(request.order_path)
        if asked is not None:
            (asked.stop if request.act == "stop" else asked.dropped).set()

    def _work(self, job: _RunningJob) -> None:
        pipe = ProgressPipe(job.descriptor)
        try:
            order = ChildOrder[FineTuneSpec].model_validate_json(job.order_path.read_bytes())
            with logged(order.attempt_folder / "child.log"), self._turns.turn() as turn:
                try:
                    outcome: Progress = self._carry_out(order, job, pipe, turn)
                except (JobDropped, BrokenPipeError):
                    return
                except Exception as exc:  # outermost frame of this job; the others go on
                    if not isinstance(exc, JobFailed | TrainingFileInvalid):
                        log.exception("the recipe failed")
                    outcome = failure_of(exc)
                # Models refer to themselves, and the next job shall not find this one's weights beside its own.
                gc.collect()
                pipe.send(outcome)
        except BrokenPipeError:
            log.info("nobody reads the reports of the job", extra={"order": str(job.order_path)})
        finally:
            with self._lock:
                del self._running[job.order_path]
            os.close(job.descriptor)

    def _carry_out(
        self, order: ChildOrder[FineTuneSpec], job: _RunningJob, pipe: ProgressPipe, turn: Turn
    ) -> RecipeFinished | RecipeStopped:
        def report(progress: Progress) -> None:
            _check_wanted(job)
            if isinstance(progress, Stepped):
                turn.expect(progress.total_steps - progress.step)
            pipe.send(progress)

        def between_steps() -> bool:
            # A job that has just come keeps the turn until its first step is reported.
            if turn.left_s is not None:
                turn.hand_on()
            _check_wanted(job)
            return job.stop.is_set() or self._stop.is_set()

        folder, base = self._base_in(order.base_path)
        with folder.unchanged(order):
            objective = load_objective(order.spec)(order, report, base.encoder())
            shared = SharedProcess(base=base.for_a_job, aside=turn.aside)
            outcome = run_training(order, objective, report, between_steps, shared)
        if isinstance(outcome, RecipeFinished) and self._began > 1:
            return outcome.model_copy(update={"peak_bytes": None})  # the peak of the process is not this job's alone
        return outcome

    def _base_in(self, path: Path) -> tuple[BaseFolder, ResidentBase]:
        if self._base is None or self._base[0] != path:
            folder = BaseFolder(path)
            self._base = (path, folder, ResidentBase(path, folder.signature))
        return self._base[1:]


def _check_wanted(job: _RunningJob) -> None:
    if job.dropped.is_set():
        raise JobDropped(f"the worker has given up the job of {job.order_path}")


@contextmanager
def logged(path: Path) -> Iterator[None]:
    """Write to *path* what this thread logs while the block runs."""
    own = current_thread().ident
    handler = logging.FileHandler(path)
    handler.addFilter(lambda record: record.thread == own)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()
