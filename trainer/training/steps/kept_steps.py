"""The weights of earlier steps that a run still needs: for its result, and to be served beside it.

attempt-<n>/kept/step-<step>/           what the Trainer saved of the model at that step, by hard links
attempt-<n>/checkpoint-<step>/kept/...  the same as of that checkpoint, so that a continued run has them too
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from peft import PeftModel, set_peft_model_state_dict
from safetensors.torch import load_file
from transformers import PreTrainedModel

from trainer.training.steps.step_choice import StepChoice

KEPT: Final = "kept"
CHOICE: Final = "choice.json"
ADAPTER_WEIGHTS: Final = "adapter_model.safetensors"


class KeptSteps:
    """The kept steps of one attempt, and the choice that they follow from."""

    def __init__(self, attempt_folder: Path) -> None:
        self._folder = attempt_folder / KEPT
        self.choice = StepChoice()

    def load(self, checkpoint: Path, *, is_first: bool) -> None:
        """Continue with what *checkpoint* holds; checkpoints are sealed, so nothing of it is missing.

        Of several processes of a run, which share the attempt's folder, the first alone makes the links; the others
        may read them once all have been here.
        """
        self.choice = StepChoice.model_validate_json((checkpoint / CHOICE).read_bytes())
        for folder in (checkpoint / KEPT).glob("step-*") if is_first else ():
            _link(folder, self._folder / folder.name)

    def save(self, checkpoint: Path, step: int) -> None:
        """Keep the weights of *checkpoint* if they are chosen, drop what is not, and store both in it."""
        chosen = self.choice.kept
        if step in chosen:
            _link(checkpoint, self._folder / f"step-{step}")
        self._drop_all_but(chosen)
        for kept in sorted(chosen):
            _link(self.folder_of(kept), checkpoint / KEPT / f"step-{kept}")
        (checkpoint / CHOICE).write_text(self.choice.model_dump_json())

    def folder_of(self, step: int) -> Path:
        """Return the folder with the weights of a kept step."""
        return self._folder / f"step-{step}"

    def has(self, step: int) -> bool:
        """Whether the weights of the step are kept."""
        return self.folder_of(step).exists()

    def restore(self, model: PreTrainedModel | PeftModel, step: int) -> None:
        """Give the trained weights of *model* the values that they had at *step*."""
        folder = self.folder_of(step)
        if isinstance(model, PeftModel):
            set_peft_model_state_dict(model, load_file(folder / ADAPTER_WEIGHTS))
            return
        with torch.no_grad():
            for path in sorted(folder.glob("*.safetensors")):  # several, where the model is large
                model.load_state_dict(load_file(path), strict=False)

    def _drop_all_but(self, steps: Collection[int]) -> None:
        for folder in self._folder.glob("step-*"):
            if int(folder.name.removeprefix("step-")) not in steps:
                shutil.rmtree(folder)


@dataclass(frozen=True, slots=True)
class FinalSteps:
    """The steps that are published at the end of a run."""

    kept: KeptSteps
    result: int
    """The step whose weights are the result."""
    last: int
    """The step at which the run ended."""

    @property
    def earlier(self) -> list[int]:
        """The further steps that are served."""
        return [step for step in self.kept.choice.served if step != self.result]


def _link(source: Path, target: Path) -> None:
    """Make *target* a folder with the weights of *source* and their configuration, without copying bytes."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for path in [*source.glob("*.safetensors"), *source.glob("*config.json"), *source.glob("*.index.json")]:
        os.link(path, target / path.name)
