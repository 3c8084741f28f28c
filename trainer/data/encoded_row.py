"""A row as tokens, and a batch of rows as tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch

from registry.contracts.pictures.picture_part import PicturePart

# The value is given: transformers' Trainer counts the labels other than -100 to average the loss.
IGNORED: Final = -100
"""Label of a token without loss."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedRow:
    """A chat as tokens. `labels` repeats the learnt ids and is `IGNORED` elsewhere; both have the same length."""

    line: int
    input_ids: tuple[int, ...]
    labels: tuple[int, ...]
    pictures: tuple[PicturePart, ...] = ()
    """Pictures whose tokens the row has, in their order."""


def collate(rows: Sequence[EncodedRow]) -> Mapping[str, torch.Tensor]:
    """Return a batch for a causal model that computes logits only where a row of the batch is learnt.

    input_ids, attention_mask: [rows, longest], padded on the right with a masked 0. logits_to_keep: [kept], all
    positions whose successor is learnt in some row. labels: [rows, kept], the successor or `IGNORED`.
    """
    longest = max(len(row.input_ids) for row in rows)
    ids = torch.tensor([_padded(row.input_ids, longest, 0) for row in rows])
    mask = torch.tensor([_padded([1] * len(row.input_ids), longest, 0) for row in rows])
    # Shifted here instead of in the model, which computes logits for `logits_to_keep` only.
    successors = torch.tensor([_padded(row.labels[1:], longest, IGNORED) for row in rows])
    kept = (successors != IGNORED).any(dim=0).nonzero().squeeze(1)
    return {"input_ids": ids, "attention_mask": mask, "logits_to_keep": kept, "labels": successors[:, kept]}


def _padded(values: Sequence[int], length: int, filler: int) -> list[int]:
    return [*values, *[filler] * (length - len(values))]
