"""Print what each fine-tuning method costs and teaches, in one table, on a base model and the sample data.

    python bench/methods.py [FOLDER] [--steps 16] [--only dpo,kto] [--json FILE]

FOLDER is a base model; without it the bundled one is unpacked below `.bench`. Each method is one training child, whole,
on one thread: batch 4, LoRA of rank 16 unless the row says otherwise, the method's own defaults. Times are processor
time, that of a step between the first and the last one; memory is the most that the child had. The held-out figure is
measured on validation rows, "before" by a job with a learning rate of next to nothing. Methods whose figure must rise
have a `+`, others a `-`. A further method is a row of `METHODS`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.training.children import ChildJob, ChildRun, run_child
from gateway.pools.bundled import unpack_bundled

CACHE: Final = Path(".bench")
NO_RATE: Final = 1e-12
UNTRAINED_STEPS: Final = 2
"""Steps of the job that measures "before": a score head begins at zero, so a first step cannot change the adapter."""
CHECKED: Final[Mapping[str, Any]] = {
    "grader": {
        "type": "string_check",
        "name": "right",
        "input": "{{sample.output_text}}",
        "reference": "{{item.answer}}",
        "operation": "ilike",
    },
    "hyperparameters": {"max_completion_tokens": 16, "eval_samples": 2, "learning_rate": 1e-3},
}
"""Options of a job on `examples/questions.jsonl`: an output is right if it has the answer in it.

The learning rate is one at which a few steps show.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A row of the table: its files, the figure that it is judged by, and what it is asked for."""

    name: str
    """Value of `method.type`."""
    files: str
    figure: str
    """Name among the validation's figures, with the sign of what is better."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options that a request has below `method.<type>`, beside the batch size."""
    begins_as: str | None = None
    """Another method with the same figure before training."""


def _asking(**hyperparameters: Any) -> Mapping[str, Any]:
    return {"hyperparameters": hyperparameters}


METHODS: Final[Mapping[str, Method]] = {
    "supervised": Method(name="supervised", files="support", figure="-loss"),
    "supervised, QLoRA": Method(name="supervised", files="support", figure="-loss", options=_asking(weights="qlora")),
    "supervised, full": Method(
        name="supervised", files="support", figure="-loss", options=_asking(weights="full"), begins_as="supervised"
    ),
    "dpo": Method(name="dpo", files="pairs", figure="+reward_margin"),
    "dpo, ipo": Method(name="dpo", files="pairs", figure="-loss", options=_asking(loss_type="ipo")),
    "kto": Method(name="kto", files="ratings", figure="+reward_margin"),
    "orpo": Method(name="orpo", files="pairs", figure="+reward_margin"),
    "simpo": Method(name="simpo", files="pairs", figure="+reward_margin"),
    "reward": Method(name="reward", files="pairs", figure="+reward_margin"),
    "reinforcement, GRPO": Method(name="reinforcement", files="questions", figure="+mean_reward", options=CHECKED),
    "reinforcement, RLOO": Method(
        name="reinforcement",
        files="questions",
        figure="+mean_reward",
        options={**CHECKED, **_asking(**CHECKED["hyperparameters"], algorithm="rloo")},
        begins_as="reinforcement, GRPO",
    ),
    "ppo": Method(
        name="ppo", files="questions", figure="+mean_reward", options=CHECKED, begins_as="reinforcement, GRPO"
    ),
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
    folder = base_folder(args.folder)
    measured: list[dict[str, Any]] = []
    before: dict[str, float] = {}
    columns = ("method", "steps", "CPU s", "CPU s/step", "peak MB", "held-out figure", "before", "after")
    sys.stdout.write(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|\n")
    for name in METHODS:
        if any(part in name for part in args.only.split(",")):
            begins_as = METHODS[name].begins_as or name
            if begins_as not in before:
                before[begins_as] = _untrained(METHODS[begins_as], folder)
            found = _measure(name, folder, args.steps, before[begins_as])
            measured.append(asdict(found))
            sys.stdout.write(
                f"| {name} | {found.steps} | {found.cpu_s:.0f} | {found.step_s:.2f} | {found.peak_mb:,.0f} "
                f"| {found.figure} | {found.before:.3f} | {found.after:.3f} |\n"
            )
            sys.stdout.flush()
    if args.json:
        args.json.write_text(json.dumps(measured, indent=1) + "\n")


def base_folder(given: Path | None) -> Path:
    """Return the folder of the base model to measure on: the bundled one unless another was given."""
    return given or unpack_bundled(CACHE.absolute(), lambda done, total: None)


def _untrained(method: Method, folder: Path) -> float:
    run = _run(method, folder, UNTRAINED_STEPS, learning_rate=NO_RATE)
    return run.figures[method.figure[1:]]


def _measure(name: str, folder: Path, steps: int, before: float) -> Measured:
    method = METHODS[name]
    run = _run(method, folder, steps)
    return Measured(
        method=name,
        steps=len(run.step_times),
        cpu_s=run.cpu_s,
        step_s=run.step_s,
        peak_mb=run.peak_mb,
        figure=method.figure,
        before=before,
        after=run.figures[method.figure[1:]],
    )


def _run(method: Method, folder: Path, steps: int, **hyperparameters: Any) -> ChildRun:
    asked = {**method.options.get("hyperparameters", {}), **hyperparameters}
    options = {**method.options, "hyperparameters": asked}
    with tempfile.TemporaryDirectory() as home:
        job = ChildJob(method=method.name, base=folder, files=method.files, steps=steps, options=options)
        return run_child(job, Path(home))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="a base model; without it the bundled one")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--only", default="", help="methods whose names contain one of these, by commas")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
