"""On the bundled model every method of preferences moves held-out answers apart within a few steps."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import pytest

from registry.artifacts import folder_digest
from registry.contracts.fine_tune_spec import FineTuneSpec
from registry.contracts.job_kinds import FINE_TUNING_METHODS
from registry.disk import sha256_of
from trainer.order import ChildOrder
from trainer.progress import Noted, RecipeFinished
from trainer.runner import TrainingChild

pytestmark = pytest.mark.engine

EXAMPLES: Final = Path(__file__).parents[3] / "examples"
CHILD_TIMEOUT_S: Final = 300.0
BATCH: Final = 4
STEPS: Final = 3
HELD_OUT: Final = 6
LEAST_GAIN: Final = {"dpo": 0.5, "kto": 0.3, "orpo": 0.1, "simpo": 0.2, "reward": 0.1}
"""The least rise of the difference between the rewards of both answers, whose unit is the method's own."""


def order_of(method: str, base: Path, folder: Path) -> ChildOrder[FineTuneSpec]:
    name = "ratings" if method == "kto" else "pairs"
    inputs = {
        "training_file": first_lines(folder, f"{name}.jsonl", STEPS * BATCH),
        "validation_file": first_lines(folder, f"{name}_validation.jsonl", HELD_OUT),
    }
    given: dict[str, Any] = {
        "base": "smollm2",
        "base_digest": folder_digest(base),
        "adapter": "support",
        "training_file": "file-1",
        "validation_file": "file-2",
        "n_epochs": 1,
        "batch_size": BATCH,
        "learning_rate": 1e-3,
        # The first step has a learning rate of 0, so what is measured after it is the untrained model.
        "warmup_ratio": 1 / STEPS,
        "checkpoint_steps": 1,
        "seed": 7,
    }
    spec = FINE_TUNING_METHODS[method](**given)
    attempt = folder / "attempt-1"
    attempt.mkdir()
    return ChildOrder[FineTuneSpec](
        spec=spec,
        base_path=base,
        inputs=inputs,
        job_folder=folder,
        attempt_folder=attempt,
        threads=1,
        nice=0,
        keep_checkpoints=1,
        worker_pid=os.getpid(),
    )


def first_lines(folder: Path, name: str, count: int) -> Path:
    """The lines in a file that has the name of its digest, as a child verifies its inputs."""
    copied = folder / name
    copied.write_text("".join((EXAMPLES / name).read_text().splitlines(keepends=True)[:count]))
    return copied.rename(folder / sha256_of(copied))


def held_out(order: ChildOrder[FineTuneSpec]) -> dict[int, dict[str, float]]:
    """Step -> the figures over the validation file after it."""
    child = TrainingChild(order)
    found: dict[int, dict[str, float]] = {}
    try:
        while True:
            match child.next_progress(CHILD_TIMEOUT_S):
                case Noted(data=data) if "full_valid_loss" in data:
                    found[data["step"]] = data
                case RecipeFinished():
                    return found
                case None:
                    pytest.fail("the child reports nothing")
    finally:
        child.close()


@pytest.mark.parametrize("method", LEAST_GAIN)
def test_held_out_answers_move_apart_within_two_steps(method: str, model_folder: Path, tmp_path: Path) -> None:
    found = held_out(order_of(method, model_folder, tmp_path))
    before, after = found[1], found[STEPS]
    margin = "full_valid_reward_margin"
    assert after[margin] > before[margin] + LEAST_GAIN[method], (before, after)
    assert after["full_valid_loss"] < before["full_valid_loss"]
