"""A vector for each text from the states of its tokens, as sentence-transformers' `Pooling` computes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import torch
from torch import Tensor


def pooled(states: Tensor, lengths: Tensor, poolings: Sequence[str]) -> Tensor:
    """[rows, tokens, hidden] of texts with *lengths*, padded on the right -> [rows, hidden x poolings]."""
    return torch.cat([_WAYS[pooling](states, lengths) for pooling in poolings], dim=-1)


def _first(states: Tensor, _lengths: Tensor) -> Tensor:
    return states[:, 0]


def _last(states: Tensor, lengths: Tensor) -> Tensor:
    return states[torch.arange(len(lengths)), lengths - 1]


def _largest(states: Tensor, lengths: Tensor) -> Tensor:
    return states.masked_fill(~_inside(states, lengths), float("-inf")).amax(dim=1)


def _sum(states: Tensor, lengths: Tensor) -> Tensor:
    return (states * _inside(states, lengths)).sum(dim=1)


def _mean(states: Tensor, lengths: Tensor) -> Tensor:
    return _sum(states, lengths) / lengths[:, None]


def _mean_by_root(states: Tensor, lengths: Tensor) -> Tensor:
    return _sum(states, lengths) / lengths[:, None].sqrt()


def _later_counts_more(states: Tensor, lengths: Tensor) -> Tensor:
    weights = torch.arange(1, states.shape[1] + 1)[None, :, None] * _inside(states, lengths)
    return (states * weights).sum(dim=1) / weights.sum(dim=1)


def _inside(states: Tensor, lengths: Tensor) -> Tensor:
    """Return where texts have tokens, [rows, tokens, 1]."""
    return (torch.arange(states.shape[1])[None] < lengths[:, None])[..., None]


_WAYS: Final[Mapping[str, Callable[[Tensor, Tensor], Tensor]]] = {
    "cls": _first,
    "max": _largest,
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_by_root,
    "weightedmean": _later_counts_more,
    "lasttoken": _last,
}
