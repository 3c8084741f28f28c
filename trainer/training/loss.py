"""Cross-entropy over learnt tokens. Labels are those of `trainer.data.encoded_row.collate`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from trainer.data.encoded_row import IGNORED


class TokenTally:
    """Sums over the learnt tokens of some passes."""

    def __init__(self, sums: Mapping[str, float] | None = None) -> None:
        """*sums* are those of other tallies, added up."""
        self.sums: dict[str, float] = dict.fromkeys(("loss", "right", "learnt"), 0.0) | dict(sums or {})

    def add(self, logits: torch.Tensor, labels: torch.Tensor, summed_loss: torch.Tensor) -> None:
        """Count a pass: logits [rows, kept, vocabulary], labels [rows, kept]."""
        self.sums["loss"] += float(summed_loss.detach())
        self.sums["right"] += int((logits.argmax(dim=-1) == labels).sum())
        self.sums["learnt"] += int((labels != IGNORED).sum())

    @property
    def loss(self) -> float:
        """Mean cross-entropy."""
        return self.sums["loss"] / max(1.0, self.sums["learnt"])

    @property
    def accuracy(self) -> float:
        """Share of the tokens that are the likeliest by the model, given all before."""
        return self.sums["right"] / max(1.0, self.sums["learnt"])


def summed_cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the sum of the cross-entropies: logits [rows, kept, vocabulary], labels [rows, kept], in nats."""
    return cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED, reduction="sum")


def count_learnt(batches: Iterable[Mapping[str, Any]]) -> int:
    """Return the number of learnt tokens of *batches*."""
    return sum(int((batch["labels"] != IGNORED).sum()) for batch in batches)
