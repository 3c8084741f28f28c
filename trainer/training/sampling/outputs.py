"""Sampling: outputs of a model for prompts, the same for the same seed.

Each output has random numbers of its own. So an output depends, up to rounding, on its prompt alone and not on those
that are sampled with it, and several processes sample what one would.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from registry.contracts.methods.packing_limits import why_not_packed
from trainer.errors import Diverged
from trainer.training.evaluating import evaluating

SEQUENCES_AT_ONCE: Final = 32
"""Outputs that are sampled together; each keeps its keys and values of all layers in memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingPlan:
    """How outputs are sampled."""

    outputs: int
    """For each prompt."""
    most_tokens: int
    temperature: float
    end_ids: frozenset[int]
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A prompt to sample outputs for."""

    key: str
    """Decides the random numbers of its outputs, with the plan's seed."""
    ids: Sequence[int]


def sample_outputs(model: Any, prompts: Sequence[Asked], plan: SamplingPlan) -> list[list[tuple[int, ...]]]:
    """Return the outputs of each prompt as tokens, the end token included where there is one; `Diverged` for NaN.

    Plan, prompts and weights decide the outputs; the random numbers of training are not touched.
    """
    at_once = max(1, SEQUENCES_AT_ONCE // plan.outputs)
    found: list[list[tuple[int, ...]]] = []
    with evaluating(model):
        for at in range(0, len(prompts), at_once):
            found += _sample(model, prompts[at : at + at_once], plan)
    return found


class _OwnNoise(LogitsProcessor):  # type: ignore[misc]  # transformers ships no types
    """Adds Gumbel noise of each row's own to the logits: the largest sum is a sample of the softmax.

    The largest of `log p - log e` with exponential e is what `torch.multinomial` draws, from one generator for all.
    """

    def __init__(self, seeds: Sequence[int], temperature: float, device: torch.device) -> None:
        self._generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]
        self._temperature = temperature

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        noise = torch.empty_like(scores)
        for row, generator in zip(noise, self._generators, strict=True):
            row.exponential_(generator=generator)
        return scores / self._temperature - noise.log()


def _sample(model: Any, asked: Sequence[Asked], plan: SamplingPlan) -> list[list[tuple[int, ...]]]:
    prompts = [each.ids for each in asked]
    longest = max(len(prompt) for prompt in prompts)
    device = next(model.parameters()).device
    # Padded on the left, so that all outputs begin at the same position.
    ids = torch.tensor([[*[0] * (longest - len(prompt)), *prompt] for prompt in prompts], device=device)
    mask = torch.tensor([[*[0] * (longest - len(prompt)), *[1] * len(prompt)] for prompt in prompts], device=device)
    config = GenerationConfig(
        do_sample=False,  # the largest of the logits with their noise
        max_new_tokens=plan.most_tokens,
        eos_token_id=sorted(plan.end_ids) or None,
        pad_token_id=0,
    )
    seeds = [_seed(f"{plan.seed}/{each.key}/{at}") for each in asked for at in range(plan.outputs)]
    sequences = model.generate(
        input_ids=ids.repeat_interleave(plan.outputs, dim=0),
        attention_mask=mask.repeat_interleave(plan.outputs, dim=0),
        past_key_values=_read_prompts(model, ids, mask, plan.outputs),
        generation_config=config,
        logits_processor=LogitsProcessorList([_numbers, _OwnNoise(seeds, plan.temperature, device)]),
        synced_gpus=False,  # processes sample their own prompts, none waits for another
    )
    outputs = [_until_end(row[longest:].tolist(), plan.end_ids) for row in sequences]
    return [outputs[at : at + plan.outputs] for at in range(0, len(outputs), plan.outputs)]


def _read_prompts(model: Any, ids: torch.Tensor, mask: torch.Tensor, outputs: int) -> Any:
    """Return keys and values of all tokens of the prompts but the last, which all *outputs* of a prompt share.

    None where a prompt has one output, or one token, and for a model that may keep something else in its cache.
    """
    if outputs == 1 or ids.shape[1] == 1 or why_not_packed(model.config.to_dict()) is not None:
        return None
    before, positions = mask[:, :-1], (mask[:, :-1].cumsum(-1) - 1).clamp(min=0)
    answer = model(
        input_ids=ids[:, :-1], attention_mask=before, position_ids=positions, use_cache=True, logits_to_keep=1
    )
    answer.past_key_values.batch_repeat_interleave(outputs)
    return answer.past_key_values


def _numbers(_: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """Return *scores* unchanged; `Diverged` for NaN and infinity, of which no probabilities can be made."""
    if not bool((scores < torch.inf).all()):
        raise Diverged("the model answers a prompt with scores that are not finite")
    return scores


def _until_end(ids: list[int], end_ids: frozenset[int]) -> tuple[int, ...]:
    ended = next((at for at, token in enumerate(ids) if token in end_ids), len(ids) - 1)
    return tuple(ids[: ended + 1])


def _seed(text: str) -> int:
    """Return the seed that *text* decides."""
    return int.from_bytes(sha256(text.encode()).digest()[:8], "big") >> 1
