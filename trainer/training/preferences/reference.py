"""Logprobs of answers by the model before training, the reference of DPO and KTO."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Final

import torch
from accelerate.utils import send_to_device
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from registry.contracts.fine_tune_spec import FineTuneSpec
from trainer.training.evaluating import evaluating
from trainer.training.objective import Batch
from trainer.training.preferences.adapter_off import without_adapter
from trainer.training.preferences.answers import answer_logprobs
from trainer.training.together.processes import Processes

FILE: Final = "reference_logprobs.safetensors"


class Reference:
    """Computes the logprobs of each row's answers once and remembers them over the epochs.

    Where the adapter can be taken off, a row is computed in the batch in which it first comes, so that at the first
    step model and reference agree to the last bit. Where the untrained weights are gone after it, all rows are computed
    before the first step. A continued run reads what the run before had computed. Several processes tell each other
    what they computed, so that all of them know the same.
    """

    def __init__(self, answers_per_row: int) -> None:
        self._answers_per_row = answers_per_row
        self._known: dict[int, list[float]] = {}
        self._as_before: Callable[[], AbstractContextManager[object]] = nullcontext

    def prepare(
        self,
        model: PreTrainedModel | PeftModel,
        spec: FineTuneSpec,
        batches: Iterable[Batch],
        processes: Processes,
    ) -> None:
        """Take the untrained *model* as the reference; *batches* have every row of the job, in every process."""
        if not spec.weights.is_full and not spec.lora.changes_base:
            self._as_before = without_adapter(model)
            return
        self._exchange(model, [*batches][processes.rank :: processes.size], processes)

    def begin_step(self, model: torch.nn.Module, batches: Sequence[Batch], processes: Processes) -> None:
        """Know the rows of a step before its passes, where processes wait for each other within a pass.

        *batches* are those of this process; a single process computes what it lacks in the passes.
        """
        if processes.size == 1:
            return
        unknown = [batch for batch in batches if not self._knows(batch)]
        if any(processes.gathered(bool(unknown))):
            with processes.whole():
                self._exchange(model, unknown, processes)

    def logprobs(self, model: torch.nn.Module, batch: Batch) -> Tensor:
        """Return the sums of the logprobs of each answer, [answers]. *model* is the prepared one, or wraps it.

        `row_ids` of *batch* are the numbers of its rows, which have `answers_per_row` answers each.
        """
        ids = batch["row_ids"].tolist()
        if not self._knows(batch):
            self._remember(ids, self._compute(model, batch, len(ids) * self._answers_per_row))
        return torch.tensor([value for row in ids for value in self._known[row]], device=batch["row_ids"].device)

    def save(self, folder: Path) -> None:
        """Write what is known to *folder*."""
        ids = sorted(self._known)
        values = torch.tensor([self._known[row] for row in ids], dtype=torch.float32)
        save_file({"row_ids": torch.tensor(ids, dtype=torch.int64), "logprobs": values}, folder / FILE)

    def load(self, folder: Path) -> None:
        """Read what `save` wrote."""
        tensors = load_file(folder / FILE)
        self._known = dict(zip(tensors["row_ids"].tolist(), tensors["logprobs"].tolist(), strict=True))

    def _knows(self, batch: Batch) -> bool:
        return self._known.keys() >= set(batch["row_ids"].tolist())

    def _exchange(self, model: torch.nn.Module, batches: Sequence[Batch], processes: Processes) -> None:
        """Compute *batches*, and learn what the other processes computed of theirs."""
        before = set(self._known)
        device = next(model.parameters()).device
        for batch in batches:
            self.logprobs(model, send_to_device(batch, device))
        found = {row: self._known[row] for row in self._known.keys() - before}
        for theirs in processes.gathered(found):
            self._known |= theirs

    def _remember(self, ids: Iterable[int], sums: Tensor) -> None:
        self._known |= dict(zip(ids, sums.view(-1, self._answers_per_row).tolist(), strict=True))

    def _compute(self, model: torch.nn.Module, batch: Batch, answers: int) -> Tensor:
        with evaluating(model), self._as_before():
            return answer_logprobs(model, batch, answers).sums
