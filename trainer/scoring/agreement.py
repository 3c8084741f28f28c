"""How far two models agree: whether one would choose the tokens that the other chose greedily."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


@torch.no_grad()
def greedy_answers(
    model: Any, prompts: Sequence[Sequence[int]], longest: int, ends: Sequence[int]
) -> list[tuple[int, ...]]:
    """Return the greedy continuation of each prompt, up to *longest* tokens, a token of *ends* included."""
    answers = []
    for prompt in prompts:
        ids = torch.tensor([list(prompt)], device=model.device)
        cache = None
        answer: list[int] = []
        while len(answer) < longest and not (answer and answer[-1] in ends):
            out = model(input_ids=ids, past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            answer.append(int(out.logits[0, -1].argmax()))
            ids = torch.tensor([[answer[-1]]], device=model.device)
        answers.append(tuple(answer))
    return answers


@torch.no_grad()
def agreement(model: Any, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]) -> tuple[float, float]:
    """Return the share of the answers' tokens, and of whole answers, that *model* chooses greedily too.

    At every place *model* is given the prompt and the answer up to there, so a first difference does not make all that
    follows differ. A whole answer agrees exactly where *model* would have given it by itself.
    """
    same = whole = total = 0
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = torch.tensor([[*prompt, *answer]], device=model.device)
        chosen = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1].argmax(dim=-1)
        agreed = int((chosen == ids[0, len(prompt) :]).sum())
        same, total, whole = same + agreed, total + len(answer), whole + (agreed == len(answer))
    return same / max(total, 1), whole / max(len(answers), 1)
