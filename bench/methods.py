"""What each fine-tuning method costs and what it teaches, in one table, on a base model and the sample data.

    python bench/methods.py FOLDER [--steps 16] [--only dpo] [--json FILE]

Each method is one training child, whole, on one thread: batch 4, LoRA of rank 16, the method's own defaults. The
held-out figure is measured on validation rows, "before" by a job with a learning rate of next to nothing.
Methods whose figure must rise have a `+`, others a `-`. A further method is a row of `METHODS`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from registry.artifacts import folder_digest
from registry.contracts.fine_tune_spec import FineTuneSpec
from registry.contracts.job_kinds import FINE_TUNING_METHODS
from registry.disk import sha256_of
from trainer.order import ChildOrder
from trainer.progress import Noted, RecipeFailed, RecipeFinished, Stepped
from trainer.runner import TrainingChild

EXAMPLES: Final = Path(__file__).parents[1] / "examples"
BATCH: Final = 4
NO_RATE: Final = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A row of the table: its files, the figure that it is judged by, and what it is asked for."""

    files: str
    """`NAME.jsonl` to train on and `NAME_validation.jsonl` to measure with, in `examples/`."""
    figure: str
    """Name among the validation's figures, with the sign of what is better."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What a request gives below `method.<type>`, beside the batch size."""
    name: str
    """Value of `method.type`."""


METHODS: Final[Mapping[str, Method]] = {
    "supervised": Method(name="supervised", files="support", figure="-loss"),
    "dpo": Method(name="dpo", files="pairs", figure="+reward_margin"),
    "dpo, ipo": Method(name="dpo", files="pairs", figure="-loss", options={"hyperparameters": {"loss_type": "ipo"}}),
    "kto": Method(name="kto", files="ratings", figure="+reward_margin"),
    "orpo": Method(name="orpo", files="pairs", figure="+reward_margin"),
    "simpo": Method(name="simpo", files="pairs", figure="+reward_margin"),
    "reward": Method(name="reward", files="pairs", figure="+preference_accuracy"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The figures of one method."""

    method: str
    steps: int
    cpu_s: float
    step_s: float
    peak_mb: float
    figure: str
    before: float
    after: float


def main() -> None:
    """Measure each method and print its row of the table."""
    args = _arguments()
    measured = []
    columns = ("method", "steps", "CPU s", "CPU s/step", "peak MB", "held-out figure", "before", "after")
    sys.stdout.write(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|\n")
    for name in METHODS:
        if args.only in (None, name):
            found = _measure(name, args.folder, args.steps)
            measured.append(asdict(found))
            sys.stdout.write(
                f"| {name} | {found.steps} | {found.cpu_s:.0f} | {found.step_s:.2f} | {found.peak_mb:.0f} "
                f"| {found.figure} | {found.before:.3f} | {found.after:.3f} |\n"
            )
            sys.stdout.flush()
    if args.json:
        args.json.write_text(json.dumps(measured, indent=1) + "\n")


def _measure(name: str, folder: Path, steps: int) -> Measured:
    method = METHODS[name]
    untrained = _follow(name, folder, 1, learning_rate=NO_RATE)
    trained = _follow(name, folder, steps)
    wanted = f"full_valid_{method.figure[1:]}"
    return Measured(
        method=name,
        steps=steps,
        cpu_s=trained.cpu_s,
        step_s=trained.step_s,
        peak_mb=trained.peak_mb,
        figure=method.figure,
        before=untrained.figures[wanted],
        after=trained.figures[wanted],
    )


@dataclass(slots=True)
class _Followed:
    cpu_s: float = 0.0
    step_s: float = 0.0
    peak_mb: float = 0.0
    figures: dict[str, float] = field(default_factory=dict)


def _follow(name: str, folder: Path, steps: int, **hyperparameters: Any) -> _Followed:
    """Run a child to its end and return what it took and its last validation figures."""
    followed, times = _Followed(), []
    with _child(METHODS[name], folder, steps, hyperparameters) as child:
        process = psutil.Process(child.pid)
        while True:
            progress = child.next_progress(0.05)
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                followed.cpu_s = sum(process.cpu_times()[:2])
                followed.peak_mb = max(followed.peak_mb, _peak_mb(child.pid))
            match progress:
                case Stepped():
                    times.append(followed.cpu_s)
                case Noted():
                    followed.figures |= {key: value for key, value in progress.data.items() if key.startswith("full_")}
                case RecipeFinished():
                    break
                case RecipeFailed():
                    raise SystemExit(f"{name}: {progress.message}")
    followed.step_s = (times[-1] - times[0]) / max(1, len(times) - 1)
    return followed


@contextmanager
def _child(method: Method, folder: Path, steps: int, hyperparameters: Mapping[str, Any]) -> Iterator[TrainingChild]:
    """Start a child that trains by *method* for *steps* steps of one epoch."""
    with tempfile.TemporaryDirectory() as home:
        inputs = {
            "training_file": _rows(Path(home), f"{method.files}.jsonl", BATCH * steps),
            "validation_file": _rows(Path(home), f"{method.files}_validation.jsonl", None),
        }
        kind = FINE_TUNING_METHODS[method.name]
        asked = {**method.options.get("hyperparameters", {}), "batch_size": BATCH, **hyperparameters}
        options = kind.options_as.model_validate({**method.options, "hyperparameters": asked})
        fields = kind.resolve(options, BATCH * steps) | {"n_epochs": 1, "checkpoint_steps": steps}
        ids: dict[str, Any] = {"training_file": "file-1", "validation_file": "file-2"}
        spec = kind(base="base", base_digest=folder_digest(folder), adapter="a", seed=1, **ids, **fields)
        attempt = Path(home) / "attempt-1"
        attempt.mkdir()
        order = ChildOrder[FineTuneSpec](
            spec=spec,
            base_path=folder,
            inputs=inputs,
            job_folder=Path(home),
            attempt_folder=attempt,
            keep_checkpoints=1,
            threads=1,
            nice=0,
            worker_pid=os.getpid(),
        )
        child = TrainingChild(order)
        try:
            yield child
        finally:
            child.close()


def _rows(home: Path, name: str, count: int | None) -> Path:
    """Copy the first *count* lines of an example below a name that is their digest, as the child verifies inputs."""
    copied = home / name
    copied.write_text("".join((EXAMPLES / name).read_text().splitlines(keepends=True)[:count]))
    return copied.rename(home / sha256_of(copied))


def _peak_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a base model")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--only", choices=METHODS)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
