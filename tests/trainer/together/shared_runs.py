"""Runs of every method by one process and by two, on the tiny base."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from safetensors.torch import load_file

from registry.contracts.fine_tune_spec import FineTuneSpec
from registry.contracts.job_kinds import FINE_TUNING_METHODS
from registry.contracts.job_spec import LoraSpec
from registry.contracts.parallel_spec import ParallelSpec
from tests.trainer.recipes.preference_runs import METHODS, write_rows
from tests.trainer.tiny_base import write_chats
from trainer.order import ChildOrder
from trainer.processes.child_environment import child_environment
from trainer.progress import Noted, Progress, RecipeFinished, Stepped, parse_progress
from trainer.recipes import load_recipe

REPORTS: Final = "reports.jsonl"
STOPS_AT: Final = "-stops-at-"
"""In the name of an order: the run stops after the step that follows."""
ROWS: Final = 10
"""In batches of four the last one of an epoch leaves the second process without a row."""
TIMEOUT_S: Final = 300.0
ALL_RUNS_S: Final = 1800.0
"""Time for all runs of two processes, on a machine that has much else to do."""
SIMILAR: Final[Mapping[str, Any]] = {
    "type": "text_similarity",
    "name": "similar",
    "input": "{{sample.output_text}}",
    "reference": "{{item.answer}}",
    "evaluation_metric": "fuzzy_match",
}
SAMPLING: Final[Mapping[str, Any]] = {
    "grader": SIMILAR,
    "group_size": 4,
    "max_completion_tokens": 8,
    "beta": 0.05,
    "iterations": 1,
    "batch_size": 4,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run of a method: its order, and by how many processes, in which way, it is made."""

    order: ChildOrder[FineTuneSpec]

    stops_at: int | None = None

    @property
    def path(self) -> Path:
        """The file of the order."""
        stop = "" if self.stops_at is None else f"{STOPS_AT}{self.stops_at}"
        return self.order.job_folder / f"order-{self.order.attempt_folder.name}{stop}.json"

    def interrupted(self, step: int) -> tuple[Run, Run]:
        """Return the same run, stopped after *step*, and what continues it."""
        going_on = self.order.model_copy(update={"attempt_folder": self.order.job_folder / "attempt-2"})
        return replace(self, stops_at=step).written(), replace(self, order=going_on).written()

    def written(self) -> Run:
        """Write the order to its file."""
        self.order.attempt_folder.mkdir(exist_ok=True)
        self.path.write_text(self.order.model_dump_json())
        return self

    def alone(self) -> None:
        """Train in this process."""
        reported: list[Progress] = []
        outcome = load_recipe(self.order.spec)(self.order, reported.append, lambda: False)
        lines = [each.model_dump_json() for each in (*reported, outcome)]
        (self.order.attempt_folder / REPORTS).write_text("".join(f"{line}\n" for line in lines))

    @property
    def reported(self) -> list[Progress]:
        return [parse_progress(line) for line in (self.order.attempt_folder / REPORTS).read_bytes().splitlines()]

    @property
    def losses(self) -> list[float]:
        return [each.train_loss for each in self.reported if isinstance(each, Stepped)]

    @property
    def figures(self) -> list[dict[str, float]]:
        return [dict(each.figures) for each in self.reported if isinstance(each, Stepped)]

    @property
    def notes(self) -> list[str]:
        return [each.message for each in self.reported if isinstance(each, Noted) and each.level == "warn"]

    @property
    def finished(self) -> RecipeFinished:
        last = self.reported[-1]
        assert isinstance(last, RecipeFinished), last
        return last

    @property
    def weights(self) -> Mapping[str, Any]:
        """The tensors of the result, and of the earlier steps that are served."""
        served = [self.order.served_folder(step) for step in self.finished.served_steps]
        paths = sorted(path for folder in (self.order.final_folder, *served) for path in folder.glob("*.safetensors"))
        tensors = {path: load_file(path) for path in paths}
        return {f"{path.parent.name}/{name}": tensors[path][name] for path in paths for name in tensors[path]}


def make_run(folder: Path, base: Path, digest: str, method: str, *, contrary: bool = False, **fields: Any) -> Run:
    """Return a run of *method* in a new *folder*; dropout is 0, since each process would draw its own masks.

    *contrary* has validation rows from which the run moves away, so that its first step is the best one.
    """
    given: dict[str, Any] = {
        "base": "tiny",
        "base_digest": digest,
        "adapter": "support",
        "training_file": "file-1",
        "n_epochs": 2,
        "batch_size": 4,
        "learning_rate": 1e-2,
        "checkpoint_steps": 50,
        "seed": 7,
        "lora": LoraSpec(rank=4, alpha=8),
        **(SAMPLING if method in ("reinforcement", "ppo") else {}),
    }
    folder.mkdir(parents=True)
    rows = valid = _write(method, folder / "rows.jsonl")
    if contrary:
        valid = folder / "contrary.jsonl"
        valid.write_text(rows.read_text().replace("answer", "?").replace("ANSWER", "answer").replace("?", "ANSWER"))
    spec: FineTuneSpec = FINE_TUNING_METHODS[method](**(given | fields))
    order = ChildOrder[FineTuneSpec](
        spec=spec,
        base_path=base,
        inputs={"training_file": rows} | ({"validation_file": valid} if spec.validation_file else {}),
        job_folder=folder,
        attempt_folder=folder / "attempt-1",
        threads=1,
        nice=0,
        keep_checkpoints=2,
        worker_pid=os.getpid(),
    )
    return Run(order=order).written()


def shared(parallelism: str, processes: int = 2) -> ParallelSpec:
    """Two processes."""
    return ParallelSpec.model_validate({"processes": processes, "parallelism": parallelism})


def train_together(runs: Iterable[Run], size: int = 2) -> None:
    """Make *runs*, one after the other, by the same *size* processes."""
    paths = [str(run.path) for run in runs]
    program = [sys.executable, "-m", "tests.trainer.together.rank_program"]
    environment = child_environment(os.environ, 1)
    ranks = [
        subprocess.Popen(
            [*program, str(rank), str(size), *paths],
            env=environment,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        for rank in range(size)
    ]
    try:
        errors = [rank.communicate(timeout=ALL_RUNS_S)[1].decode() for rank in ranks]
    finally:
        for rank in ranks:
            if rank.poll() is None:
                os.killpg(rank.pid, signal.SIGKILL)  # its fork too
            rank.wait()
    codes = [rank.returncode for rank in ranks]
    assert codes == [0] * size, "\n".join([str(codes), *(error[-2000:] for error in errors)])


def _write(method: str, path: Path) -> Path:
    if method in METHODS:
        return write_rows(method, path, ROWS)
    if method == "supervised":
        return write_chats(path, ROWS)
    rows = [
        {"messages": [{"role": "user", "content": f"q{at}" * (at % 3 + 1)}], "answer": f"answer {at}"}
        for at in range(ROWS)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
