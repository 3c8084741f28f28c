"""With the bundled model, a kill -9 in the middle changes neither the loss curve nor a byte of the weights."""

from __future__ import annotations

import os
import signal
from hashlib import sha256
from pathlib import Path

import pytest

from registry.artifacts import folder_digest
from registry.contracts.job_spec import LoraSpec
from registry.contracts.methods.supervised_spec import SupervisedSpec
from registry.disk import sha256_of
from trainer.errors import ChildCrashed
from trainer.order import ChildOrder
from trainer.progress import CheckpointSaved, RecipeFinished, Stepped
from trainer.runner import TrainingChild

CHATS = Path(__file__).parents[3] / "examples" / "support_validation.jsonl"
ROWS = 10
CHILD_TIMEOUT_S = 300.0


def train(order: ChildOrder[SupervisedSpec], kill_at: int | None = None) -> list[Stepped]:
    """The steps of one attempt, killed with -9 once the checkpoint of step *kill_at* is whole."""
    order.attempt_folder.mkdir(parents=True)
    child = TrainingChild(order)
    steps: list[Stepped] = []
    try:
        while True:
            match child.next_progress(CHILD_TIMEOUT_S):
                case Stepped() as stepped:
                    steps.append(stepped)
                case CheckpointSaved(step=step) if step == kill_at:
                    os.kill(child.pid, signal.SIGKILL)
                case RecipeFinished():
                    return steps
                case None:
                    pytest.fail("the child reports nothing")
    except ChildCrashed:
        assert kill_at is not None
        return steps
    finally:
        child.close()


def weights(order: ChildOrder[SupervisedSpec]) -> str:
    return sha256((order.final_folder / "adapter_model.safetensors").read_bytes()).hexdigest()


@pytest.mark.engine
def test_a_run_that_was_killed_ends_with_the_same_curve_and_the_same_bytes(model_folder: Path, tmp_path: Path) -> None:
    chats = tmp_path / "chats.jsonl"
    chats.write_text("".join(CHATS.read_text().splitlines(keepends=True)[:ROWS]))
    # As the artifacts have it: a child checks the bytes by the name.
    chats = chats.rename(tmp_path / sha256_of(chats))
    spec = SupervisedSpec(
        base="smollm2",
        base_digest=folder_digest(model_folder),
        adapter="support",
        training_file="file-1",
        n_epochs=1,
        batch_size=2,
        learning_rate=1e-3,
        checkpoint_steps=2,
        seed=7,
        lora=LoraSpec(rank=4, alpha=8),
    )

    def order(job: str, attempt: int) -> ChildOrder[SupervisedSpec]:
        return ChildOrder[SupervisedSpec](
            spec=spec,
            base_path=model_folder,
            inputs={"training_file": chats},
            job_folder=tmp_path / job,
            attempt_folder=tmp_path / job / f"attempt-{attempt}",
            threads=1,
            nice=0,
            keep_checkpoints=2,
            worker_pid=os.getpid(),
        )

    straight = train(order("straight", 1))
    killed = train(order("killed", 1), kill_at=2)
    resumed = train(order("killed", 2))
    assert [step.step for step in straight] == [1, 2, 3, 4, 5]
    assert resumed[0].step == 3
    curves = [
        [(step.step, step.train_loss, step.tokens) for step in steps] for steps in (straight, killed[:2] + resumed)
    ]
    assert curves[0] == curves[1]
    assert weights(order("straight", 1)) == weights(order("killed", 2))
