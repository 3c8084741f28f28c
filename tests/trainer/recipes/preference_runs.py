"""Runs of the methods that learn preferences, on the tiny base and files of its size."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from registry.contracts.fine_tune_spec import FineTuneSpec
from registry.contracts.job_kinds import FINE_TUNING_METHODS
from registry.contracts.job_spec import LoraSpec
from trainer.order import ChildOrder
from trainer.progress import CheckpointSaved, Noted, Progress, RecipeFinished, RecipeStopped, Stepped
from trainer.recipes import load_recipe

PAIR_METHODS = ("dpo", "orpo", "simpo", "reward")
METHODS = (*PAIR_METHODS, "kto")
ROWS = 12


def write_pairs(path: Path, rows: int = ROWS) -> Path:
    """Pairs whose preferred answer is in small letters."""
    lines = [
        {
            "input": {"messages": [{"role": "user", "content": f"q{at}" * (at % 3 + 1)}]},
            "preferred_output": [{"role": "assistant", "content": f"answer {at}"}],
            "non_preferred_output": [{"role": "assistant", "content": f"ANSWER {at}" * (at % 2 + 1)}],
        }
        for at in range(rows)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def write_ratings(path: Path, rows: int = ROWS) -> Path:
    """Rated chats; good answers are in small letters."""
    lines = [
        {
            "messages": [
                {"role": "user", "content": f"q{at}" * (at % 3 + 1)},
                {"role": "assistant", "content": f"answer {at}" if at % 2 else f"ANSWER {at}"},
            ],
            "label": bool(at % 2),
        }
        for at in range(rows)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def write_rows(method: str, path: Path, rows: int = ROWS) -> Path:
    """A file that *method* learns from."""
    return (write_ratings if method == "kto" else write_pairs)(path, rows)


class PreferenceRun:
    """A job folder in which attempts are made."""

    def __init__(self, folder: Path, base: Path, digest: str, method: str, **fields: Any) -> None:
        given: dict[str, Any] = {
            "base": "tiny",
            "base_digest": digest,
            "adapter": "support",
            "training_file": "file-1",
            "n_epochs": 2,
            "batch_size": 4,
            "learning_rate": 1e-2,
            "checkpoint_steps": 2,
            "seed": 7,
            "lora": LoraSpec(rank=4, alpha=8, dropout=0.1),
        }
        self.spec: FineTuneSpec = FINE_TUNING_METHODS[method](**(given | fields))
        self.folder = folder
        self.base = base
        self.reported: list[Progress] = []
        self.attempts = 0
        folder.mkdir(parents=True)
        self.rows = write_rows(method, folder / "rows.jsonl")

    def order(self, *, validates: bool = False) -> ChildOrder[FineTuneSpec]:
        """The order of the next attempt."""
        self.attempts += 1
        attempt_folder = self.folder / f"attempt-{self.attempts}"
        attempt_folder.mkdir()
        return ChildOrder[FineTuneSpec](
            spec=self.spec,
            base_path=self.base,
            inputs={"training_file": self.rows} | ({"validation_file": self.rows} if validates else {}),
            job_folder=self.folder,
            attempt_folder=attempt_folder,
            threads=1,
            nice=0,
            keep_checkpoints=2,
            worker_pid=os.getpid(),
        )

    def attempt(self, stop_after: int | None = None, *, validates: bool = False) -> RecipeFinished | RecipeStopped:
        """Train until the end, or until *stop_after* steps are done."""
        stop: Callable[[], bool] = lambda: stop_after is not None and self.last_step >= stop_after  # noqa: E731
        return load_recipe(self.spec)(self.order(validates=validates), self.reported.append, stop)

    @property
    def steps(self) -> list[Stepped]:
        return [progress for progress in self.reported if isinstance(progress, Stepped)]

    @property
    def notes(self) -> list[Noted]:
        return [progress for progress in self.reported if isinstance(progress, Noted)]

    @property
    def last_step(self) -> int:
        saved = [progress.step for progress in self.reported if isinstance(progress, CheckpointSaved | Stepped)]
        return max(saved, default=0)

    @property
    def curve(self) -> list[tuple[float, dict[str, float]]]:
        return [(step.train_loss, dict(step.figures)) for step in self.steps]

    @property
    def result(self) -> Path:
        return self.folder / f"attempt-{self.attempts}" / "final"

    def digests(self) -> dict[str, str]:
        """Digest of every file of weights."""
        return {path.name: sha256(path.read_bytes()).hexdigest() for path in self.result.glob("*.safetensors")}
