"""The order of rows for methods that take several steps over the same rows."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler


class RepeatedBatches(Sampler[int]):
    """Yields the rows of an epoch in a random order, *batch_size* of them *repeats* times in a row.

    Seed and epoch decide the order. The last rows of an epoch are filled up with its first ones, so that every batch is
    whole and its repetitions stay together.
    """

    def __init__(self, rows: int, batch_size: int, repeats: int, seed: int) -> None:
        self._rows = rows
        self._batch_size = batch_size
        self._repeats = repeats
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Take the order of *epoch*."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed + self._epoch)
        order = torch.randperm(self._rows, generator=generator).tolist()
        filled = order + [order[at % self._rows] for at in range(-self._rows % self._batch_size)]
        for at in range(0, len(filled), self._batch_size):
            for _ in range(self._repeats):
                yield from filled[at : at + self._batch_size]

    def __len__(self) -> int:
        batches = -(-self._rows // self._batch_size)
        return batches * self._batch_size * self._repeats
