"""A grader that asks a model: the first process has the way to the worker, and grades the outputs of all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import Any, Final

import pytest

from graders.grade import ModelAnswer
from registry.disk import sha256_of
from tests.trainer.together.shared_runs import ROWS, TIMEOUT_S, make_run, shared
from trainer.progress import Noted, RecipeFinished, Stepped
from trainer.runner import TrainingChild

pytestmark = pytest.mark.trains

GRADER: Final[Mapping[str, Any]] = {
    "type": "score_model",
    "name": "judge",
    "model": "judge",
    "input": [{"role": "user", "content": "How good is {{sample.output_text}}?"}],
}


class Judge:
    """A model that likes long outputs, and counts its questions."""

    def __init__(self) -> None:
        self.asked = 0
        self._lock = Lock()

    def answer(self, body: Mapping[str, Any]) -> ModelAnswer:
        with self._lock:
            self.asked += 1
        return ModelAnswer(text=f'{{"result": {len(str(body["messages"])) % 10 / 10}}}', usage={"total_tokens": 1})


def test_the_outputs_of_all_processes_are_graded_each_once(tiny_base: Path, tiny_digest: str, tmp_path: Path) -> None:
    run = make_run(
        tmp_path / "run", tiny_base, tiny_digest, "reinforcement", grader=GRADER, n_epochs=1, parallel=shared("ddp")
    )
    prompts = run.order.inputs["training_file"]
    # As the artifacts have it: a child checks the bytes by the name.
    order = run.order.model_copy(update={"inputs": {"training_file": prompts.rename(tmp_path / sha256_of(prompts))}})
    judge = Judge()
    child = TrainingChild(order, judge)
    steps: list[Stepped] = []
    try:
        while not isinstance(progress := child.next_progress(TIMEOUT_S), RecipeFinished):
            assert progress is not None, "the child reports nothing"
            assert not isinstance(progress, Noted) or progress.level != "warn", progress
            steps += [progress] if isinstance(progress, Stepped) else []
    finally:
        child.close()
    assert judge.asked == ROWS * order.spec.group_size  # type: ignore[attr-defined]
    assert all(0 < step.figures["train_mean_reward"] < 1 for step in steps)
