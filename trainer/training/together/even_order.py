"""Rows in the order of one process, filled up so that several processes have the same number of passes.

accelerate would fill up with rows from the beginning, which were learnt twice then. A filler here is a row whose loss
counts nothing: a process without a row of its own still takes part in what all processes do together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import torch
from accelerate.data_loader import SeedableRandomSampler
from torch.utils.data import Dataset, Sampler

from trainer.training.objective import Batch

FILLER: Final = "lorry_filler"
"""Key in a batch that has only fillers."""


class FilledRows(Dataset[Any]):
    """Rows, and after them fillers, which are None."""

    def __init__(self, rows: Sequence[Any], together: int) -> None:
        """Fill up to a multiple of *together*, the rows that all processes read in one pass."""
        self.rows = rows
        self._length = -(-len(rows) // together) * together

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Any:
        return self.rows[index] if index < len(self.rows) else None


class EvenOrder(Sampler[int]):
    """The order of a run with one process, with the fillers last."""

    def __init__(self, filled: FilledRows, seed: int) -> None:
        self._filled = filled
        self._order = SeedableRandomSampler(filled.rows, generator=torch.Generator(), data_seed=seed)

    def __len__(self) -> int:
        return len(self._filled)

    def __iter__(self) -> Iterator[int]:
        yield from self._order
        yield from range(len(self._filled.rows), len(self._filled))

    def set_epoch(self, epoch: int) -> None:
        """Shuffle as in this epoch of a run with one process."""
        self._order.set_epoch(epoch)


def collate_filled(collate: Callable[[Sequence[Any]], Batch]) -> Callable[[Sequence[Any]], Batch]:
    """Return *collate* without the fillers; a batch of fillers alone is a token that is not read, marked `FILLER`."""

    def collated(batch: Sequence[Any]) -> Batch:
        real = [row for row in batch if row is not None]
        nothing = torch.zeros(1, 1, dtype=torch.long)
        return collate(real) if real else {"input_ids": nothing, "attention_mask": nothing, FILLER: nothing}

    return collated
