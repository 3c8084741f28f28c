"""Methods beside each other as their users choose between them: processor time, and what held-out rows show.

    python bench/methods_compared.py [FOLDER] [--only preferences] [--json FILE]

FOLDER is a base model; without it the bundled one is unpacked below `.bench`. Every job is one training child, whole,
on one thread, and only its processor time counts; a job that another one needs, such as a reward model, counts too.
Every few steps a checkpoint is kept, and all of them are measured afterwards: "held-out accuracy" is the share of
validation pairs whose preferred answer has gained more probability than the other one, as against the base model.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.methods import base_folder
from bench.training.children import EXAMPLES, ChildJob, ChildRun, run_child
from bench.training.held_out import HeldOut, held_out, read_answers
from registry.artifacts import folder_digest

WANTED: Final = 0.9
"""The held-out accuracy that the time is taken to."""
PPO: Final = {"max_completion_tokens": 24, "group_size": 8, "learning_rate": 5e-4}
"""32 outputs a step: with PPO's own single output of a prompt, four rewards are all that a step learns from."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model that a run had at some point."""

    cpu_s: float
    """Processor seconds of its run until then."""
    base: Path
    adapter: Path | None


class Pairs:
    """The validation pairs NAME, by which models are measured, and what the untrained *base* makes of them."""

    def __init__(self, name: str, base: Path) -> None:
        self._path = EXAMPLES / f"{name}_validation.jsonl"
        self._base = read_answers(base, None, self._path)

    def figures(self, model: Model) -> HeldOut:
        """Return the figures of *model*."""
        return held_out(read_answers(model.base, model.adapter, self._path), self._base)


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A way to learn, as a row of a table shows it."""

    name: str
    steps: int
    cpu_s: float
    """All that was trained, up to the end."""
    cpu_s_wanted: float | None
    """Up to the first checkpoint with the accuracy `WANTED`; None if none had it."""
    peak_mb: float
    reached: HeldOut
    """By the result."""
    best_accuracy: float


def main() -> None:
    """Compare, print the tables, and write what was asked for."""
    args = _arguments()
    folder, found = base_folder(args.folder), {}
    for name, compare in COMPARISONS.items():
        if any(part in name for part in args.only.split(",")):
            with tempfile.TemporaryDirectory() as home:
                found[name] = [asdict(way) for way in _told(name, compare(folder, Path(home)))]
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


def _told(name: str, ways: Iterator[Way]) -> Iterator[Way]:
    """Print a row for each of *ways* as soon as it is known."""
    columns = ("way", "steps", f"CPU s to {WANTED:g}", "CPU s", "peak MB", "accuracy", "best", "margin", "loss")
    sys.stdout.write(f"**{name}**\n\n| {' | '.join(columns)} |\n{'|---' * len(columns)}|\n")
    for way in ways:
        until = "not reached" if way.cpu_s_wanted is None else f"{way.cpu_s_wanted:.0f}"
        end = way.reached
        sys.stdout.write(
            f"| {way.name} | {way.steps} | {until} | {way.cpu_s:.0f} | {way.peak_mb:,.0f} "
            f"| {end.accuracy:.2f} | {way.best_accuracy:.2f} | {end.margin:.2f} | {end.loss:.2f} |\n"
        )
        sys.stdout.flush()
        yield way
    sys.stdout.write("\n")


def _preferences(base: Path, home: Path) -> Iterator[Way]:
    """Learn the same pairs by DPO, and by PPO with a reward model."""
    dpo = ChildJob(method="dpo", base=base, files="brief", steps=8, validates=False, checkpoint_steps=1)
    found = run_child(dpo, _folder(home, "dpo"))
    pairs = Pairs("brief", base)
    yield _way("DPO", pairs, [found], _checkpoints(base, found))
    reward = ChildJob(method="reward", base=base, files="brief", steps=12, validates=False)
    taught = run_child(reward, _folder(home, "reward"))
    model = taught.result.rename(taught.result.parent / folder_digest(taught.result))
    ppo = ChildJob(
        method="ppo",
        base=base,
        files="questions",
        steps=24,
        options={"grader": {"type": "reward_model", "model": "brief@1"}, "hyperparameters": PPO},
        validates=False,
        checkpoint_steps=2,
        reward_models={"brief@1": model},
    )
    found = run_child(ppo, _folder(home, "ppo"))
    yield _way("reward model, then PPO", pairs, [taught, found], _checkpoints(base, found))


def _supervised_first(base: Path, home: Path) -> Iterator[Way]:
    """Learn a manner by DPO alone, and by DPO after supervised training on the preferred answers."""
    pairs = Pairs("pairs", base)
    alone = ChildJob(method="dpo", base=base, files="pairs", steps=12, validates=False, checkpoint_steps=4)
    found = run_child(alone, _folder(home, "alone"))
    yield _way("DPO", pairs, [found], _checkpoints(base, found))
    merged = {"hyperparameters": {"merge": True}}
    first = ChildJob(method="supervised", base=base, files="support", steps=8, options=merged, validates=False)
    taught = run_child(first, _folder(home, "supervised"))
    yield _way("supervised", pairs, [taught], [Model(taught.cpu_s, taught.result, None)])
    second = ChildJob(method="dpo", base=taught.result, files="pairs", steps=4, validates=False, checkpoint_steps=2)
    found = run_child(second, _folder(home, "second"))
    yield _way("supervised, then DPO", pairs, [taught, found], _checkpoints(taught.result, found))


COMPARISONS: Final[Mapping[str, Callable[[Path, Path], Iterator[Way]]]] = {
    "preferences": _preferences,
    "supervised first": _supervised_first,
}


def _checkpoints(base: Path, run: ChildRun) -> list[Model]:
    return [Model(at, base, folder) for folder, at in run.checkpoints.items()]


def _way(name: str, pairs: Pairs, runs: Sequence[ChildRun], models: Sequence[Model]) -> Way:
    """Return the row of *runs*, one after the other, of which the last one gave *models*."""
    before = sum(run.cpu_s for run in runs[:-1])
    figures = [pairs.figures(model) for model in models]
    reached = [model.cpu_s for model, found in zip(models, figures, strict=True) if found.accuracy >= WANTED]
    return Way(
        name=name,
        steps=sum(len(run.step_times) for run in runs),
        cpu_s=before + runs[-1].cpu_s,
        cpu_s_wanted=before + reached[0] if reached else None,
        peak_mb=max(run.peak_mb for run in runs),
        reached=figures[-1],
        best_accuracy=max(found.accuracy for found in figures),
    )


def _folder(home: Path, name: str) -> Path:
    folder = home / name
    folder.mkdir()
    return folder


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="a base model; without it the bundled one")
    parser.add_argument("--only", default="", help="comparisons whose names contain this")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
