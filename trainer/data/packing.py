"""How the rows of one pass lie in the tensors that a model reads: padded, packed, or with shared beginnings.

- Padded: each row is a sequence of its own, as `collate` makes it.
- Packed: rows lie one after the other in fewer sequences, none longer than the longest row.
- Shared: all rows lie in one sequence, in which tokens that several rows begin with are computed once, such as a
  system prompt, or the prompt of two answers.

In the last two a mask lets each row attend to its own tokens alone, and its positions count from its own beginning. So
every learnt token gets the logits that its row gets alone, and the gradients are those of the padded rows, both up to
rounding.

Any method whose rows are `EncodedRow`s can use this: a `RowCollator` as its `collate`, `model_inputs` for what the
model is called with, and `sum_by_row` where a loss needs sums over each row, such as the logprob of an answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Final

import torch
from peft import PeftModel
from transformers import PreTrainedConfig, PreTrainedModel

from registry.contracts.methods.packing_limits import why_not_packed
from trainer.data.encoded_row import IGNORED, EncodedRow, collate
from trainer.errors import JobFailed

PICTURES: Final = "pictures:"
"""Begins the names, in a batch, of what a model takes beside tokens."""
NOBODY: Final = -1
"""Owner of a position whose successor is not learnt."""
GAIN: Final = 0.95
"""A layout must cost less than this part of the padded one to be taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A row in a sequence."""

    row: int
    path: Sequence[int]
    """Place of each token of the row in the sequence."""
    shared: int
    """So many first tokens were placed by the row before."""


Layout = Sequence[Sequence[Segment]]
"""The rows of each sequence."""


class RowCollator:
    """Lays out the rows of each pass; padded until `fit` has seen the model."""

    def __init__(self, *, packing: bool | None) -> None:
        """*packing* True packs every pass, False none; None packs, on CPUs, the passes that it makes cheaper."""
        self._packing = packing
        self._shares = False
        self._token_work: float | None = None

    def fit(self, model: PreTrainedModel | PeftModel, *, dropout: float) -> None:
        """Lay out rows as *model* allows; `JobFailed` if it cannot have the packing that was asked for.

        With *dropout*, rows that share a beginning would share its noise.
        """
        why = _why_not(model.config)
        if self._packing and why is not None:
            raise JobFailed("invalid_hyperparameters", f"packing: {why}; leave packing out", "hyperparameters")
        # The work was compared with measured times on CPUs alone.
        if why is None and (self._packing or (self._packing is None and model.device.type == "cpu")):
            self._token_work = token_work(model.config)
            self._shares = dropout == 0.0

    def __call__(self, rows: Sequence[EncodedRow]) -> Mapping[str, torch.Tensor]:
        """Return the batch of *rows*.

        `labels`, `owners`: [sequences, kept], the learnt successors and the rows that learn them (`NOBODY` where none
        does). `attention_mask`: its sum is the number of tokens of the rows, its length their number.
        """
        layout = self._choose(rows)
        if layout is not None:
            return lay_out(rows, layout)
        batch = collate(rows)
        numbers = torch.arange(len(rows))[:, None].expand_as(batch["labels"])
        return {**batch, "owners": numbers.where(batch["labels"] != IGNORED, NOBODY)}

    def _choose(self, rows: Sequence[EncodedRow]) -> Layout | None:
        """Return the layout with the least work; None for the padded one."""
        if self._token_work is None:
            return None
        layouts = [pack(rows), *([share(rows)] if self._shares else [])]
        costs = [work_of(len(layout), max(map(_length, layout)), self._token_work) for layout in layouts]
        padded = work_of(len(rows), max(len(row.input_ids) for row in rows), self._token_work)
        return layouts[costs.index(min(costs))] if self._packing or min(costs) < GAIN * padded else None


def _why_not(config: PreTrainedConfig) -> str | None:
    if config._attn_implementation != "sdpa":
        return f"the attention {config._attn_implementation} takes no mask"
    return why_not_packed(config.to_dict())


def model_inputs(batch: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Return the arguments of the model for a batch of a `RowCollator`."""
    inputs: dict[str, Any] = {name: batch[name] for name in ("input_ids", "attention_mask", "logits_to_keep")}
    if "visible" in batch:
        inputs |= {"attention_mask": batch["visible"], "position_ids": batch["position_ids"]}
    beside = {name.removeprefix(PICTURES): tensor for name, tensor in batch.items() if name.startswith(PICTURES)}
    return inputs | beside | {"use_cache": False}


def sum_by_row(values: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return the sums over the learnt tokens of each row, [rows], of *values*, [sequences, kept]."""
    rows = torch.arange(len(batch["attention_mask"]), device=values.device)
    owned = batch["owners"].flatten() == rows[:, None]
    return values.flatten().expand_as(owned).where(owned, 0.0).sum(-1)


def token_work(config: PreTrainedConfig) -> float:
    """Return the work of a token in the linear layers of a block, in tokens that it attends to.

    Forward and backward, a frozen weight takes 4 operations a token, and a token attended to takes 14 for each number
    of the heads' width: the backward pass of attention takes 2.5 times its forward pass.
    """
    heads: int = config.num_attention_heads
    hidden: int = config.hidden_size
    width = heads * (getattr(config, "head_dim", None) or hidden // heads)
    keys = width * (getattr(config, "num_key_value_heads", None) or heads) // heads
    weights: int = hidden * (2 * width + 2 * keys + 3 * config.intermediate_size)
    return 4 * weights / (14 * width)


def work_of(sequences: int, length: int, token_work: float) -> float:
    """Return the work of *sequences* that are filled to *length* tokens, in tokens that one attends to."""
    return sequences * length * (token_work + length)


def pack(rows: Sequence[EncodedRow]) -> Layout:
    """Return the rows, longest first, each in the first sequence with room for it."""
    order = sorted(range(len(rows)), key=lambda at: len(rows[at].input_ids), reverse=True)
    longest = len(rows[order[0]].input_ids)
    bins: list[list[Segment]] = []
    for at in order:
        tokens = len(rows[at].input_ids)
        own = next((one for one in bins if _length(one) + tokens <= longest), None)
        if own is None:
            bins.append(own := [])
        start = _length(own)
        own.append(Segment(row=at, path=range(start, start + tokens), shared=0))
    return bins


def share(rows: Sequence[EncodedRow]) -> Layout:
    """Return all rows in one sequence; each row shares the longest beginning that it can with the row before."""
    # In this order the row before is one with which a row shares the most.
    order = sorted(range(len(rows)), key=lambda at: rows[at].input_ids)
    segments: list[Segment] = []
    length = 0
    for before, at in zip([None, *order], order, strict=False):
        shared = 0 if before is None else _shared(rows[before], rows[at])
        added = len(rows[at].input_ids) - shared
        path = [*(segments[-1].path[:shared] if segments else ()), *range(length, length + added)]
        segments.append(Segment(row=at, path=path, shared=shared))
        length += added
    return [segments]


def _shared(one: EncodedRow, other: EncodedRow) -> int:
    """Return how many first tokens both can share: none of these predicts a token that a row learns."""
    same = takewhile(lambda pair: pair[0] == pair[1], zip(one.input_ids, other.input_ids, strict=False))
    return max(0, min(sum(1 for _ in same), _first_learnt(one) - 1, _first_learnt(other) - 1))


def _first_learnt(row: EncodedRow) -> int:
    return next((at for at, label in enumerate(row.labels) if label != IGNORED), len(row.labels))


def _length(segments: Sequence[Segment]) -> int:
    return segments[-1].path[-1] + 1 if segments else 0


def lay_out(rows: Sequence[EncodedRow], layout: Layout) -> Mapping[str, torch.Tensor]:
    """Return the batch of *rows* in *layout*, which is `pack`'s or `share`'s."""
    shape = (len(layout), max(map(_length, layout)))
    ids, positions = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    successors, owners = torch.full(shape, IGNORED), torch.full(shape, NOBODY)
    # Padding sees itself: a token that sees nothing has no finite attention.
    visible = torch.eye(shape[1], dtype=torch.bool).repeat(shape[0], 1, 1)
    for at, segments in enumerate(layout):
        for segment in segments:
            row, shared = rows[segment.row], segment.shared
            own = slice(segment.path[shared], segment.path[-1] + 1)
            ids[at, own] = torch.tensor(row.input_ids[shared:])
            positions[at, own] = torch.arange(shared, len(row.input_ids))
            successors[at, own] = torch.tensor([*row.labels[shared + 1 :], IGNORED])
            owners[at, own] = segment.row
            visible[at, own, own] = torch.ones_like(visible[at, own, own]).tril()
            visible[at, own, list(segment.path[:shared])] = True
    kept = (successors != IGNORED).any(dim=0).nonzero().squeeze(1)
    labels = successors[:, kept]
    return {
        "input_ids": ids,
        "position_ids": positions,
        "visible": visible[:, None],
        "attention_mask": torch.tensor([len(row.input_ids) for row in rows]),
        "logits_to_keep": kept,
        "labels": labels,
        "owners": owners[:, kept].where(labels != IGNORED, NOBODY),
    }
