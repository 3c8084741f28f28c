"""Cross-entropy over learnt tokens, during training and on a validation file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from trainer.data.dataset import IGNORED, EncodedRow, collate


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredLoss:
    """Means over the learnt tokens of a file."""

    loss: float
    accuracy: float
    """Share of tokens that are the likeliest by the model, given all before."""


class LossMeter:
    """Computes the loss of each batch, and the accuracy since the last report."""

    def __init__(self) -> None:
        self._right = 0
        self._learnt = 0

    def loss(self, outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int) -> torch.Tensor:
        """Return the sum of the cross-entropies of one pass, divided by the learnt tokens of the whole batch."""
        self._right += int(_count_right(outputs.logits, labels))
        self._learnt += int((labels != IGNORED).sum())
        return _summed_loss(outputs.logits, labels) / num_items_in_batch

    def pop_accuracy(self) -> float:
        """Return the share of right tokens since the last call, and start to count anew."""
        accuracy = self._right / max(1, self._learnt)
        self._right = self._learnt = 0
        return accuracy


def measure_loss(model: torch.nn.Module, rows: Sequence[EncodedRow], rows_at_once: int) -> MeasuredLoss:
    """Return loss and accuracy of *model* on *rows*; training afterwards is not affected."""
    device = next(model.parameters()).device
    summed, right, learnt = 0.0, 0, 0
    model.eval()
    with torch.no_grad():
        for at in range(0, len(rows), rows_at_once):
            batch = collate(rows[at : at + rows_at_once])
            tensors = {name: tensor.to(device) for name, tensor in batch.items()}
            labels = tensors.pop("labels")
            logits = model(**tensors).logits
            summed += float(_summed_loss(logits, labels))
            right += int(_count_right(logits, labels))
            learnt += int((labels != IGNORED).sum())
    model.train()
    return MeasuredLoss(loss=summed / learnt, accuracy=right / learnt)


def _summed_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED, reduction="sum")


def _count_right(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return (logits.argmax(dim=-1) == labels).sum()
