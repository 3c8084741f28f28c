"""On the bundled model GRPO learns a checkable task within few steps: to answer briefly."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from registry.artifacts import folder_digest
from registry.contracts.graders.text_graders import PythonGrader
from registry.contracts.job_spec import LoraSpec
from registry.contracts.methods.reinforcement_spec import ReinforcementSpec
from registry.disk import sha256_of
from trainer.order import ChildOrder
from trainer.progress import RecipeFinished, Stepped
from trainer.runner import TrainingChild

CHILD_TIMEOUT_S = 300.0
BREVITY = "def grade(sample, item):\n    return 1 - min(1, len(sample['output_text']) / 160)\n"


@pytest.mark.engine
def test_answers_become_brief_within_six_steps(model_folder: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    row = {"messages": [{"role": "user", "content": "What is the capital of France?"}]}
    prompts.write_text(f"{json.dumps(row)}\n" * 6)
    # As the artifacts have it: a child checks the bytes by the name.
    prompts = prompts.rename(tmp_path / sha256_of(prompts))
    spec = ReinforcementSpec(
        base="smollm2",
        base_digest=folder_digest(model_folder),
        adapter="brief",
        training_file="file-1",
        n_epochs=1,
        batch_size=1,
        learning_rate=2e-3,
        warmup_ratio=0.0,
        checkpoint_steps=10,
        seed=7,
        lora=LoraSpec(rank=8, alpha=16),
        grader=PythonGrader(name="brevity", source=BREVITY),
        group_size=8,
        max_completion_tokens=24,
        beta=0.0,
        iterations=1,
    )
    order = ChildOrder[ReinforcementSpec](
        spec=spec,
        base_path=model_folder,
        inputs={"training_file": prompts},
        job_folder=tmp_path,
        attempt_folder=tmp_path / "attempt-1",
        threads=1,
        nice=0,
        keep_checkpoints=1,
        worker_pid=os.getpid(),
    )
    order.attempt_folder.mkdir()
    steps = followed(TrainingChild(order))
    rewards = [step.figures["train_mean_reward"] for step in steps]
    assert len(rewards) == 6
    assert rewards[-1] > rewards[0] + 0.15, rewards
    assert steps[-1].figures["completion_tokens"] < steps[0].figures["completion_tokens"]


def followed(child: TrainingChild) -> list[Stepped]:
    """Return the steps that a child reports until it has finished."""
    steps: list[Stepped] = []
    try:
        while True:
            match child.next_progress(CHILD_TIMEOUT_S):
                case Stepped() as stepped:
                    steps.append(stepped)
                case RecipeFinished():
                    return steps
                case None:
                    pytest.fail("the child reports nothing")
    finally:
        child.close()
