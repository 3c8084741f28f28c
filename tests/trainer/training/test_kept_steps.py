"""Processes of one run share the folder of the attempt, and its first one alone changes the kept steps in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.training.steps.kept_steps import ADAPTER_WEIGHTS, CHOICE, KEPT, KeptSteps
from trainer.training.steps.step_choice import StepChoice


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A checkpoint of step 5 that has kept step 3."""
    folder = tmp_path / "attempt-1" / "checkpoint-5"
    step = folder / KEPT / "step-3"
    step.mkdir(parents=True)
    (step / ADAPTER_WEIGHTS).write_bytes(b"weights")
    (folder / CHOICE).write_text(StepChoice().serving(3).model_dump_json())
    return folder


def test_a_further_process_leaves_what_the_first_has_linked_alone(tmp_path: Path, checkpoint: Path) -> None:
    first, further = KeptSteps(tmp_path / "attempt-2"), KeptSteps(tmp_path / "attempt-2")
    further.load(checkpoint, is_first=False)
    assert not further.has(3)
    first.load(checkpoint, is_first=True)
    linked = first.folder_of(3).stat().st_ino
    further.load(checkpoint, is_first=False)
    assert further.has(3)
    assert further.choice == first.choice == StepChoice().serving(3)
    assert further.folder_of(3).stat().st_ino == linked
    assert (further.folder_of(3) / ADAPTER_WEIGHTS).read_bytes() == b"weights"
