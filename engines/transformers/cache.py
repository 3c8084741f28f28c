"""Keys and values of every running sequence, and the attention that reads them.

Each sequence owns a slot: room for `max_context` positions in every layer. A step is one flat row of tokens, first
one token of each decoding sequence, then pieces of prompts; only attention needs to know which is which.
"""

from __future__ import annotations

import math
import mmap
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

ATTENTION_NAME: Final = "lorry_slots"
# Finite, because slots between those of a step have every position masked, and softmax of -inf alone is NaN.
NEVER: Final = -1e30


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheShape:
    """Sizes of the cache of one model."""

    layers: int
    slots: int
    heads: int
    positions: int
    head_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeRows:
    """The first `count` rows of a step: one new token each, attended in one batch over neighbouring slots."""

    count: int
    first_slot: int
    end_slot: int
    order: Tensor | None
    """Row -> slot minus `first_slot`, [count]; None when that is 0, 1, 2, ..."""
    mask: Tensor
    """The mask: 0 where a slot's position is past or present, else `NEVER`: [slots, 1, length]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptRows:
    """Rows `start` to `end` of a step: a piece of one sequence's prompt."""

    start: int
    end: int
    slot: int
    length: int
    """Positions of the sequence up to the end of this piece."""
    mask: Tensor | None
    """[end - start, length]; None for the first piece, which is plainly causal."""


class StepAbandoned(Exception):
    """A step for copies alone was abandoned, because a client's request came."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionPlan:
    """The plan of one step, as the attention of every layer needs it."""

    cache: SlotCache
    written: Tensor
    """Indices into the flat cache where the rows' keys and values go, [heads * rows]."""
    decode: DecodeRows | None
    prompts: tuple[PromptRows, ...]
    gives_way: Callable[[], bool]
    """Called at every layer; the step is abandoned when it returns true."""


def _untouched_zeros(size: tuple[int, ...]) -> Tensor:
    """Return zeros that take memory page by page, where they are first written to.

    numpy's `zeros` asks for huge pages, of which the first token of a slot would take a whole one in every store.
    """
    memory = mmap.mmap(-1, 4 * math.prod(size))
    if sys.platform == "linux":
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    return torch.frombuffer(memory, dtype=torch.float32).view(size)


class SlotCache:
    """Preallocated keys and values; pages that were never written cost no memory."""

    def __init__(self, shape: CacheShape) -> None:
        size = (shape.slots, shape.heads, shape.positions, shape.head_size)
        self.shape = shape
        self.keys = [_untouched_zeros(size) for _ in range(shape.layers)]
        self.values = [_untouched_zeros(size) for _ in range(shape.layers)]

    def copy_prefix(self, source: int, target: int, length: int) -> None:
        """Copy the first *length* positions of slot *source* to *target*."""
        for store in (*self.keys, *self.values):
            store[target, :, :length] = store[source, :, :length]

    def flat_index(self, slots: Tensor, positions: Tensor) -> Tensor:
        """Return the rows of the cache, as [slots * heads * positions, head_size], by head and (slot, position)."""
        heads = torch.arange(self.shape.heads)[:, None]
        return ((slots * self.shape.heads + heads) * self.shape.positions + positions).flatten()

    def write(self, layer: int, where: Tensor, keys: Tensor, values: Tensor) -> None:
        """Store the step's keys and values, [1, heads, rows, head_size] each, at `flat_index` *where*."""
        size = self.shape.head_size
        self.keys[layer].view(-1, size).index_copy_(0, where, keys.reshape(-1, size))
        self.values[layer].view(-1, size).index_copy_(0, where, values.reshape(-1, size))


def plan_decode(slots: list[int], lengths: list[int]) -> DecodeRows:
    """Return how rows of one token each attend: row i is position `lengths[i] - 1` of slot `slots[i]`."""
    first, end = min(slots), max(slots) + 1
    offsets = torch.tensor(slots) - first
    limits = torch.zeros(end - first, dtype=torch.long)
    limits[offsets] = torch.tensor(lengths)
    beyond = torch.arange(max(lengths))[None, :] >= limits[:, None]
    in_order = slots == list(range(first, end))
    return DecodeRows(
        count=len(slots),
        first_slot=first,
        end_slot=end,
        order=None if in_order else offsets,
        mask=torch.zeros(beyond.shape).masked_fill_(beyond, NEVER)[:, None],
    )


def plan_prompt(start: int, slot: int, first_position: int, count: int) -> PromptRows:
    """Return how *count* rows from *start* on attend: they are positions *first_position* and up of *slot*."""
    length = first_position + count
    mask = None
    # torch's `is_causal` aligns the first query with the first key, which fits the first piece of a prompt only.
    if first_position > 0:
        own = torch.arange(first_position, length)[:, None]
        mask = torch.zeros(count, length).masked_fill_(torch.arange(length)[None, :] > own, NEVER)
    return PromptRows(start=start, end=start + count, slot=slot, length=length, mask=mask)


def attend(  # noqa: PLR0913 - the signature is that of transformers' attention functions
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    *,
    plan: AttentionPlan,
    **_unused: Any,
) -> tuple[Tensor, None]:
    """Attend in one layer for all rows of a step: query [1, query heads, rows, size] -> [1, rows, heads, size].

    `StepAbandoned` if the plan gives way.
    """
    if plan.gives_way():  # asked at every layer: a client waits for a layer of a copy's step, not for a step
        raise StepAbandoned
    layer = int(module.layer_idx)  # type: ignore[arg-type] # every attention module of transformers numbers itself
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    # Written before the attention, because each row also attends to its own position.
    plan.cache.write(layer, plan.written, key, value)
    keys, values = plan.cache.keys[layer], plan.cache.values[layer]
    parts = []
    if plan.decode is not None:
        rows = query[0, :, : plan.decode.count].transpose(0, 1)
        parts.append(attend_decode(rows, keys, values, plan.decode, scale))
    for piece in plan.prompts:
        attended = scaled_dot_product_attention(
            query[:, :, piece.start : piece.end],
            keys[piece.slot, None, :, : piece.length],
            values[piece.slot, None, :, : piece.length],
            attn_mask=piece.mask,
            is_causal=piece.mask is None,
            scale=scale,
            enable_gqa=True,
        )
        parts.append(attended[0].transpose(0, 1))
    return torch.cat(parts)[None], None


def attend_decode(rows: Tensor, keys: Tensor, values: Tensor, decode: DecodeRows, scale: float) -> Tensor:
    """Attend for single tokens, [count, query heads, size] -> the same: one batched product over the slots.

    Query heads that share a key head form the rows of its product, so keys are read once and nothing is copied.
    """
    slots, length = decode.end_slot - decode.first_slot, decode.mask.shape[-1]
    heads, size = keys.shape[1], keys.shape[3]
    # Query heads that share a key head are neighbours, as in `repeat_kv` of transformers' models.
    group = rows.shape[1] // heads
    scaled = (rows * scale).reshape(decode.count, -1)
    if decode.order is not None:
        # Slots between those of the step get a query of zeros, so that keys and values stay views and are not gathered.
        scaled = scaled.new_zeros(slots, scaled.shape[1]).index_copy_(0, decode.order, scaled)
    near = slice(decode.first_slot * heads, decode.end_slot * heads)
    own_keys = keys.view(-1, *keys.shape[2:])[near, :length]
    own_values = values.view(-1, *values.shape[2:])[near, :length]
    scores = torch.bmm(scaled.view(slots * heads, group, size), own_keys.transpose(1, 2))
    scores.view(slots, heads * group, length).add_(decode.mask)
    attended = torch.bmm(torch.softmax(scores, -1), own_values).view(slots, heads * group, size)
    return attended if decode.order is None else attended[decode.order]
