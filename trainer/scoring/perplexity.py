"""Perplexity of a causal language model, in windows that overlap."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch


def spans(length: int, window: int, stride: int) -> Iterator[tuple[int, int, int]]:
    """Yield (begin, end, first scored token) of each window over *length* tokens.

    Windows begin *stride* tokens apart. Every token but the very first is scored once: in the first window that has it,
    so that all but the first window read at least `window - stride` tokens before the first one they score.
    """
    if stride >= window:
        raise ValueError(f"stride {stride} must be below window {window}: a token is scored from those before it")
    scored = 1
    for begin in range(0, max(length, 1), stride):
        end = min(begin + window, length)
        if end > scored:
            yield begin, end, scored
        scored = max(scored, end)
        if end == length:
            return


@torch.no_grad()
def mean_loss(model: Any, texts: Sequence[Sequence[int]], window: int, stride: int) -> tuple[float, int]:
    """Return the mean negative log-likelihood of a token of *texts* in nats, and the number of tokens scored.

    Each text is read by itself. Log-probabilities are computed in float32 and added up in float64.
    """
    total, count = 0.0, 0
    for text in texts:
        ids = torch.tensor([list(text)], device=model.device)
        for begin, end, first in spans(len(text), window, stride):
            logits = model(input_ids=ids[:, begin:end], use_cache=False).logits[0, first - begin - 1 : -1].float()
            losses = torch.nn.functional.cross_entropy(logits, ids[0, first:end], reduction="none")
            total += float(losses.double().sum())
            count += end - first
    return total / max(count, 1), count


def perplexity(model: Any, texts: Sequence[Sequence[int]], window: int, stride: int) -> float:
    """Return the exponential of `mean_loss`, infinite where that overflows."""
    loss, _ = mean_loss(model, texts, window, stride)
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf
