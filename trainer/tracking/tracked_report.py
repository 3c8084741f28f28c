"""A report that trackers get as well, and that goes on without a tracker that fails."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

from registry.contracts.extensions.integrations import Integration
from registry.contracts.job_spec import JobSpec
from trainer.order import ChildOrder
from trainer.progress import Noted, Progress, RecipeFinished, Report, Stepped

log = logging.getLogger(__name__)

VALIDATION: Final = "full_valid_"
"""First part of the names of the figures of the validation file."""


class Tracker(Protocol):
    """A run in an experiment tracker; any of its methods may raise anything."""

    @property
    def place(self) -> str:
        """Where the figures are, for a person."""
        ...

    def record(self, step: int, figures: Mapping[str, float]) -> None:
        """Take the figures of a step."""
        ...

    def end(self, *, succeeded: bool) -> None:
        """End the run."""
        ...


Start = Callable[[Integration, ChildOrder[JobSpec], Path], Tracker]


def starters() -> Mapping[str, Start]:
    """Return type -> what starts a run; only the library of a type that is asked for is imported."""
    from trainer.tracking.mlflow_run import MlflowRun
    from trainer.tracking.tensorboard_run import TensorBoardRun
    from trainer.tracking.wandb_run import WandbRun

    return {"wandb": WandbRun, "mlflow": MlflowRun, "tensorboard": TensorBoardRun}


@contextmanager
def tracked(order: ChildOrder[JobSpec], report: Report) -> Iterator[TrackedReport]:
    """Yield a report that the trackers of the job get as well; their runs end with the block."""
    told = TrackedReport(order, report)
    try:
        yield told
    finally:
        told.end()


class TrackedReport:
    """Call it with every message of a recipe."""

    def __init__(self, order: ChildOrder[JobSpec], report: Report) -> None:
        self._report = report
        self._trackers: dict[str, Tracker] = {}
        self.outcome: object = None
        """How the recipe ended; None while it runs, and if it failed."""
        for integration in order.spec.integrations_asked():
            self._start(integration, order)

    def __call__(self, progress: Progress) -> None:
        """Report *progress*, then give its figures to the trackers."""
        self._report(progress)
        step, figures = figures_of(progress)
        if figures:
            for name in [*self._trackers]:
                self._attempt(name, lambda name=name: self._trackers[name].record(step, figures))  # type: ignore[misc]

    def end(self) -> None:
        """End the runs of all trackers."""
        succeeded = isinstance(self.outcome, RecipeFinished)
        for name in [*self._trackers]:
            self._attempt(name, lambda name=name: self._trackers[name].end(succeeded=succeeded))  # type: ignore[misc]

    def _start(self, integration: Integration, order: ChildOrder[JobSpec]) -> None:
        name, folder = integration.type, order.job_folder / "tracking"

        def start() -> None:
            folder.mkdir(parents=True, exist_ok=True)
            self._trackers[name] = starters()[name](integration, order, folder)
            self._report(Noted(message=f"Figures go to {name}: {self._trackers[name].place}"))

        self._attempt(name, start)

    def _attempt(self, name: str, act: Callable[[], None]) -> None:
        try:
            act()
        except BrokenPipeError:  # of our own report: the worker is gone
            raise
        except Exception as exc:
            log.warning("integration failed", exc_info=True)
            self._trackers.pop(name, None)
            message = f"The integration {name} failed and gets no further figures: {type(exc).__name__}: {exc}"
            self._report(Noted(message=message, level="warn"))


def figures_of(progress: Progress) -> tuple[int, Mapping[str, float]]:
    """Return the step and the finite numbers of a message; no numbers where the message has none."""
    found: dict[str, Any] = {}
    step = 0
    if isinstance(progress, Stepped):
        step = progress.step
        rates = {"train_loss": progress.train_loss, "learning_rate": progress.learning_rate}
        found = {**rates, "tokens": progress.tokens, **progress.figures}
    elif isinstance(progress, Noted) and isinstance(progress.data.get("step"), int):
        step = progress.data["step"]
        found = {name: value for name, value in progress.data.items() if name.startswith(VALIDATION)}
    return step, {name: float(value) for name, value in found.items() if math.isfinite(value)}
