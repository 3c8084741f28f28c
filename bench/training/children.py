"""Jobs that a training child does alone, without gateway and registry: what they took, and what they measured."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil

from registry.artifacts import folder_digest
from registry.contracts.fine_tune_spec import FineTuneSpec
from registry.contracts.job_kinds import FINE_TUNING_METHODS
from registry.contracts.methods.sampling_options import reward_input
from registry.disk import sha256_of
from trainer.order import ChildOrder
from trainer.progress import CheckpointSaved, Noted, RecipeFailed, RecipeFinished, Stepped
from trainer.runner import TrainingChild

EXAMPLES: Final = Path(__file__).parents[2] / "examples"
BATCH: Final = 4
MEASURED: Final = "full_valid_"
"""First part of the names of the figures over a whole validation file."""
_LOOK_S: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildJob:
    """A job on one thread: batches of `BATCH` rows, LoRA of rank 16, and else the method's own defaults."""

    method: str
    """Value of `method.type`."""
    base: Path
    """Folder of the base model."""
    files: str
    """`NAME.jsonl` to train on and `NAME_validation.jsonl` to measure with, in `examples/`."""
    steps: int
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options that a request has below `method.<type>`, beside the batch size."""
    validates: bool = True
    checkpoint_steps: int | None = None
    """Steps between two checkpoints, all of which are kept; None for one at the end."""
    reward_models: Mapping[str, Path] = field(default_factory=dict)
    """Folders of the reward models that the grader names, by their names there."""

    def spec(self) -> FineTuneSpec:
        """Return the spec, for one epoch over as many rows as `steps` need."""
        kind = FINE_TUNING_METHODS[self.method]
        asked = {"batch_size": BATCH, **self.options.get("hyperparameters", {})}
        options = kind.options_as.model_validate({**self.options, "hyperparameters": asked})
        fields = kind.resolve(options, BATCH * self.steps)
        fields |= {"n_epochs": 1, "checkpoint_steps": self.checkpoint_steps or self.steps, "training_file": "file-1"}
        if self.validates:
            fields["validation_file"] = "file-2"
        if self.reward_models:
            fields["reward_artifacts"] = {name: folder.name for name, folder in self.reward_models.items()}
        return kind(base="base", base_digest=folder_digest(self.base), adapter="a", seed=1, **fields)


@dataclass(slots=True)
class ChildRun:
    """The costs and reports of a child; times are processor seconds since its start."""

    result: Path
    """Folder of what it made."""
    cpu_s: float = 0.0
    peak_mb: float = 0.0
    step_times: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    checkpoints: dict[Path, float] = field(default_factory=dict)
    """Folder of a checkpoint -> when it was whole."""
    figures: dict[str, float] = field(default_factory=dict)
    """The last figures over the validation file, by their names without `MEASURED`."""

    @property
    def step_s(self) -> float:
        """Return the mean processor seconds of a step, the first one left out."""
        return (self.step_times[-1] - self.step_times[0]) / max(1, len(self.step_times) - 1)


def run_child(job: ChildJob, home: Path) -> ChildRun:
    """Do *job* in the empty folder *home*; exit with the child's message if it fails."""
    with _child(job, home) as (child, order):
        run, process = ChildRun(result=order.final_folder), psutil.Process(child.pid)
        while True:
            progress = child.next_progress(_LOOK_S)
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                run.cpu_s = sum(process.cpu_times()[:4])
                run.peak_mb = max(run.peak_mb, _peak_mb(child.pid))
            match progress:
                case Stepped():
                    run.step_times.append(run.cpu_s)
                    run.losses.append(progress.train_loss)
                case CheckpointSaved():
                    run.checkpoints[order.attempt_folder / f"checkpoint-{progress.step}"] = run.cpu_s
                case Noted():
                    found = {name: value for name, value in progress.data.items() if name.startswith(MEASURED)}
                    run.figures |= {name.removeprefix(MEASURED): value for name, value in found.items()}
                case RecipeFinished():
                    return run
                case RecipeFailed():
                    raise SystemExit(f"{job.method}: {progress.message}")


@contextmanager
def _child(job: ChildJob, home: Path) -> Iterator[tuple[TrainingChild, ChildOrder[FineTuneSpec]]]:
    spec = job.spec()
    rows = BATCH * job.steps // spec.repeats()
    inputs = {"training_file": _rows(home, f"{job.files}.jsonl", rows)}
    if job.validates:
        inputs["validation_file"] = _rows(home, f"{job.files}_validation.jsonl", None)
    attempt = home / "attempt-1"
    attempt.mkdir()
    order = ChildOrder[FineTuneSpec](
        spec=spec,
        base_path=job.base,
        inputs=inputs | {reward_input(name): folder for name, folder in job.reward_models.items()},
        job_folder=home,
        attempt_folder=attempt,
        keep_checkpoints=max(1, job.steps),
        threads=1,
        nice=0,
        worker_pid=os.getpid(),
    )
    child = TrainingChild(order)
    try:
        yield child, order
    finally:
        child.close()


def _rows(home: Path, name: str, count: int | None) -> Path:
    """Write *count* lines of an example, which begins anew at its end, below their digest: a child verifies inputs."""
    lines = (EXAMPLES / name).read_text().splitlines(keepends=True)
    copied = home / name
    copied.write_text("".join(itertools.islice(itertools.cycle(lines), len(lines) if count is None else count)))
    return copied.rename(home / sha256_of(copied))


def _peak_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)
