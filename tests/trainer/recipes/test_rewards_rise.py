"""On the bundled model the methods that sample learn a checkable task within few steps: to answer briefly."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from registry.artifacts import folder_digest
from registry.contracts.fine_tune_spec import FineTuneSpec
from registry.contracts.graders.text_graders import PythonGrader
from registry.contracts.job_kinds import FINE_TUNING_METHODS
from registry.contracts.job_spec import LoraSpec
from registry.disk import sha256_of
from trainer.order import ChildOrder
from trainer.progress import Noted, RecipeFailed, RecipeFinished
from trainer.runner import TrainingChild

CHILD_TIMEOUT_S: Final = 300.0
BREVITY: Final = "def grade(sample, item):\n    return 1 - min(1, len(sample['output_text']) / 160)\n"
ASKED: Final = "What is the capital of France?"
HELD_OUT: Final = ("Where is the Eiffel Tower?", "What is the capital of Italy?")
STEPS: Final = 3
LEAST_GAIN: Final = 0.05
"""The least rise of the mean reward of held-out prompts, which is between 0 and 1."""
METHODS: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    "grpo": ("reinforcement", {}),
    "rloo": ("reinforcement", {"algorithm": "rloo"}),
    "ppo": ("ppo", {}),
}


def order_of(name: str, base: Path, folder: Path) -> ChildOrder[FineTuneSpec]:
    method, fields = METHODS[name]
    given: dict[str, Any] = {
        "base": "smollm2",
        "base_digest": folder_digest(base),
        "adapter": "brief",
        "training_file": "file-1",
        "validation_file": "file-2",
        "n_epochs": 1,
        "batch_size": 1,
        "learning_rate": 3e-3,
        # The first step has a learning rate of 0, so what is measured after it is the untrained model.
        "warmup_ratio": 1 / STEPS,
        "checkpoint_steps": STEPS,
        "serve_checkpoints": "none",
        "seed": 7,
        "lora": LoraSpec(rank=8, alpha=16),
        "grader": PythonGrader(name="brevity", source=BREVITY),
        "group_size": 8,
        "max_completion_tokens": 16,
        "beta": 0.0,
        "iterations": 1,
        "eval_interval": 1,
        "eval_samples": 2,
    }
    (folder / "attempt-1").mkdir()
    return ChildOrder[FineTuneSpec](
        spec=FINE_TUNING_METHODS[method](**{**given, **fields}),
        base_path=base,
        inputs={
            "training_file": prompts(folder, [ASKED] * STEPS),
            "validation_file": prompts(folder, HELD_OUT),
        },
        job_folder=folder,
        attempt_folder=folder / "attempt-1",
        threads=1,
        nice=0,
        keep_checkpoints=1,
        worker_pid=os.getpid(),
    )


def prompts(folder: Path, questions: Sequence[str]) -> Path:
    """A file that has the name of its digest, as a child verifies its inputs."""
    rows = [{"messages": [{"role": "user", "content": question}]} for question in questions]
    written = folder / "prompts.jsonl"
    written.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return written.rename(folder / sha256_of(written))


def held_out(order: ChildOrder[FineTuneSpec]) -> dict[int, float]:
    """Step -> the mean reward of outputs for the held-out prompts after it, up to the last; the result is not made."""
    child = TrainingChild(order)
    found: dict[int, float] = {}
    try:
        while STEPS not in found:
            match child.next_progress(CHILD_TIMEOUT_S):
                case Noted(data=data) if "full_valid_mean_reward" in data:
                    found[data["step"]] = data["full_valid_mean_reward"]
                case RecipeFinished() | RecipeFailed() | None as end:
                    pytest.fail(f"the child ends with {end}")
    finally:
        child.close()
    return found


@pytest.mark.engine
@pytest.mark.parametrize("name", METHODS)
def test_answers_to_other_prompts_become_brief(name: str, model_folder: Path, tmp_path: Path) -> None:
    found = held_out(order_of(name, model_folder, tmp_path))
    assert found[STEPS] > found[1] + LEAST_GAIN, found
