"""Supervised fine-tuning: cross-entropy on the assistant's tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import torch

from registry.contracts.methods.supervised_spec import SupervisedSpec
from trainer.data.dataset import ChatEncoder, read_rows
from trainer.data.encoded_row import EncodedRow
from trainer.data.fitting_rows import FittingRows, row_limits
from trainer.data.packing import PICTURES, RowCollator, model_inputs
from trainer.data.pictures import chat_encoder
from trainer.order import ChildOrder
from trainer.progress import RecipeFinished, RecipeStopped, Report, StopAsked
from trainer.recipes import MakeObjective, Recipe
from trainer.training.loss import TokenTally, count_learnt, summed_cross_entropy
from trainer.training.objective import Batch, Objective
from trainer.training.run import run_training


class SupervisedObjective(Objective[EncodedRow]):
    """Mean cross-entropy over the learnt tokens."""

    def __init__(self, encoder: ChatEncoder, spec: SupervisedSpec) -> None:
        super().__init__(encoder, row_limits(spec))
        self._spec = spec
        self._collate = RowCollator(packing=spec.packing)
        self._tally = TokenTally()

    def encode_rows(self, path: Path, param: str, fitting: FittingRows) -> Sequence[EncodedRow]:
        """Return the chats as tokens."""
        return read_rows(path, self.encoder, fitting)

    def collate(self, rows: Sequence[EncodedRow]) -> Batch:
        """Return the batch with labels for the kept positions, laid out as costs the least, and its pictures."""
        batch = self._collate(rows)
        beside = self.encoder.batch_inputs(rows, batch["input_ids"])
        return {**batch, **{f"{PICTURES}{name}": tensor for name, tensor in beside.items()}}

    def prepare(self, model: torch.nn.Module, rows: Sequence[EncodedRow]) -> None:
        """Lay out rows as the model allows."""
        self._collate.fit(model, dropout=self._spec.lora.dropout)

    def count_items(self, batches: Sequence[Batch]) -> int:
        """Return the number of learnt tokens."""
        return count_learnt(batches)

    def loss(self, model: torch.nn.Module, batch: Batch, items: torch.Tensor | int) -> torch.Tensor:
        """Return the sum of the cross-entropies of one pass, divided by the learnt tokens of the whole step."""
        return _summed(model, batch, self._tally) / items

    def pop_figures(self) -> Mapping[str, float]:
        """Return the share of tokens that were the likeliest by the model."""
        tally, self._tally = TokenTally(self.processes.summed(self._tally.sums)), TokenTally()
        return {"train_mean_token_accuracy": tally.accuracy}

    def measure(self, model: torch.nn.Module, rows: Sequence[EncodedRow], rows_at_once: int) -> Mapping[str, float]:
        """Return mean loss and accuracy over all learnt tokens of *rows*."""
        device = next(model.parameters()).device
        tally = TokenTally()
        for at in range(0, len(rows), rows_at_once):
            batch = self.collate(rows[at : at + rows_at_once])
            _summed(model, {name: tensor.to(device) for name, tensor in batch.items()}, tally)
        return {"loss": tally.loss, "mean_token_accuracy": tally.accuracy}


def _summed(model: torch.nn.Module, batch: Batch, tally: TokenTally) -> torch.Tensor:
    labels = batch["labels"]
    logits = model(**model_inputs(batch)).logits
    summed = summed_cross_entropy(logits, labels)
    tally.add(logits, labels, summed)
    return summed


def objective_of(
    order: ChildOrder[SupervisedSpec], report: Report, encoder: ChatEncoder | None = None
) -> SupervisedObjective:
    """Return the objective of *order*, with an *encoder* for its base model that others use too, if there is one."""
    own = encoder or chat_encoder(order.base_path, order.pictures.sources())
    return SupervisedObjective(own, order.spec)


def train(order: ChildOrder[SupervisedSpec], report: Report, stop_asked: StopAsked) -> RecipeFinished | RecipeStopped:
    """Train on the chats of the order's training file."""
    return run_training(order, objective_of(order, report), report, stop_asked)


OBJECTIVE: Final[MakeObjective] = objective_of
RECIPE: Final[Recipe] = train
