"""The questions that every fine-tuning method answers about its rows and its loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch

from registry.contracts.training_formats import CHATS_OR_TEXTS, LineFormat, TrainingLine
from registry.contracts.unfit_rows import UnfitRows
from trainer.data.dataset import ChatEncoder
from trainer.data.fitting_rows import FittingRows, RowLimits
from trainer.data.probes import Messages, training_prompts
from trainer.training.together.processes import Processes

Row = TypeVar("Row")
Batch = Mapping[str, Any]
"""Tensors by name."""


class Objective(ABC, Generic[Row]):
    """The rows that a method learns from, and the loss that it minimises; built once for a run.

    A step of the optimizer consists of one or more passes over parts of its batch, perhaps in several processes. The
    gradients of the passes are added, so each loss is a sum over its pass, divided by the items of the whole step.
    """

    formats: ClassVar[tuple[LineFormat[TrainingLine], ...]] = CHATS_OR_TEXTS
    """The formats of lines that the method learns from."""

    is_cheap_to_measure: ClassVar[bool] = True
    """Whether validation rows are measured beside the evaluations too: on batches, and at every checkpoint."""

    def __init__(self, encoder: ChatEncoder, limits: RowLimits) -> None:
        self.encoder = encoder
        self._limits = limits
        self._files: dict[str, FittingRows] = {}
        """Field of the job that names a file -> the choice of the rows that fit, once the file was read."""
        self.processes = Processes()
        """The processes of the run, which the run sets before it reads rows."""
        self.aside: Callable[[], AbstractContextManager[None]] = nullcontext
        """Lets other jobs of the process go on beside a block that draws no random number; the run sets it."""

    def read_rows(self, path: Path, param: str) -> Sequence[Row]:
        """Return the rows of the file at *path* that fit, as tokens; `TrainingFileInvalid` names a faulty line.

        *param* is the field of the job that names the file; `unfit_rows` then has the rows that do not fit.
        """
        fitting = self._files[param] = FittingRows(self._limits)
        return self.encode_rows(path, param, fitting)

    def unfit_rows(self, param: str) -> UnfitRows:
        """Return the counts of the rows that do not fit, of a file that was read."""
        return self._files[param].unfit()

    @abstractmethod
    def encode_rows(self, path: Path, param: str, fitting: FittingRows) -> Sequence[Row]:
        """Return the rows of the file at *path* that *fitting* keeps, as tokens."""

    @abstractmethod
    def collate(self, rows: Sequence[Row]) -> Batch:
        """Return the batch of one pass."""

    @abstractmethod
    def count_items(self, batches: Sequence[Batch]) -> int:
        """Return the divisor for the batches of one step: learnt tokens, pairs, or whatever the loss is a mean of."""

    def count_tokens(self, batch: Batch) -> int:
        """Return the tokens that a pass over *batch* learns from, prompts included and padding not."""
        return int(batch["attention_mask"].sum())

    @abstractmethod
    def loss(self, model: torch.nn.Module, batch: Batch, items: torch.Tensor | int) -> torch.Tensor:
        """Return the loss of one pass, a scalar: the sum over *batch*, divided by *items*."""

    @abstractmethod
    def pop_figures(self) -> Mapping[str, float]:
        """Return the method's own figures of all processes since the last call, and start to count anew.

        Every process calls it after each step.
        """

    @abstractmethod
    def measure(self, model: torch.nn.Module, rows: Sequence[Row], rows_at_once: int) -> Mapping[str, float]:
        """Return `loss`, and further means over *rows*, without a gradient; training afterwards is not affected."""

    def attach(self, model: torch.nn.Module) -> None:
        """Put what the method trains of its own into *model*, such as a score head; nothing by default."""
        return

    def prepare(self, model: torch.nn.Module, rows: Sequence[Row]) -> None:
        """Compute what is needed of the untrained *model* before the first step; nothing by default."""
        return

    def begin_step(self, model: torch.nn.Module, batches: Sequence[Batch]) -> None:
        """Compute what the passes of a step share, before the first of them; nothing by default.

        *batches* are those of this process, in the memory of the host, and may be none. *model* is not wrapped: passes
        through it wait for no other process, in a block of `processes.whole` at least.
        """
        return

    def idle_loss(self, model: torch.nn.Module, filler: Batch) -> torch.Tensor:
        """Return zero, computed by all that is trained, for a process that has no rows in a pass of the others."""
        zero: torch.Tensor = model(input_ids=filler["input_ids"]).logits.sum() * 0.0
        return zero

    def batches(self, rows: Sequence[Row], rows_at_once: int) -> Iterator[Batch]:
        """Yield the batches of *rows* in their order."""
        for at in range(0, len(rows), rows_at_once):
            yield self.collate(rows[at : at + rows_at_once])

    def probe_prompts(self, path: Path, count: int) -> list[Messages]:
        """Return up to *count* prompts of the training file, and some with pictures: candidates for probes."""
        return [*training_prompts(path, count, self.formats), *self.encoder.picture_prompts(path, self.formats)]

    def save_state(self, folder: Path) -> None:
        """Write what a continued run needs beside the weights into a checkpoint's folder; nothing by default.

        Every process calls it, and the first one alone writes.
        """
        return

    def save_result(self, folder: Path) -> None:
        """Write what the result has beside its weights, such as a score head, into its folder; nothing by default."""
        return

    def load_state(self, folder: Path) -> None:
        """Read what `save_state` wrote; nothing by default."""
        return

    def load_result(self, folder: Path) -> None:
        """Read what of the weights in a checkpoint's folder is the objective's own and part of a result."""
        return
