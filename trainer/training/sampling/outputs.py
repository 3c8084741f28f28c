"""Sampling: outputs of a model for prompts, the same for the same seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

import torch
from transformers import GenerationConfig, LogitsProcessorList

from registry.contracts.methods.packing_limits import why_not_packed
from trainer.errors import Diverged

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


def sample_outputs(
    model: Any, prompts: Sequence[Sequence[int]], plan: SamplingPlan, occasion: str
) -> list[list[tuple[int, ...]]]:
    """Return the outputs of each prompt as tokens, the end token included where there is one; `Diverged` for NaN.

    Plan, prompts, weights and *occasion* decide the outputs; the random numbers of training are not touched.
    """
    at_once = max(1, SEQUENCES_AT_ONCE // plan.outputs)
    found: list[list[tuple[int, ...]]] = []
    with _sampling(model):
        for at in range(0, len(prompts), at_once):
            with _seeded(f"{plan.seed}/{occasion}/{at}"):
                found += _sample(model, prompts[at : at + at_once], plan)
    return found


def _sample(model: Any, prompts: Sequence[Sequence[int]], plan: SamplingPlan) -> list[list[tuple[int, ...]]]:
    longest = max(len(prompt) for prompt in prompts)
    device = next(model.parameters()).device
    # Padded on the left, so that all outputs begin at the same position.
    ids = torch.tensor([[*[0] * (longest - len(prompt)), *prompt] for prompt in prompts], device=device)
    mask = torch.tensor([[*[0] * (longest - len(prompt)), *[1] * len(prompt)] for prompt in prompts], device=device)
    config = GenerationConfig(
        do_sample=True,
        temperature=plan.temperature,
        top_k=0,
        top_p=1.0,
        max_new_tokens=plan.most_tokens,
        eos_token_id=sorted(plan.end_ids) or None,
        pad_token_id=0,
    )
    sequences = model.generate(
        input_ids=ids.repeat_interleave(plan.outputs, dim=0),
        attention_mask=mask.repeat_interleave(plan.outputs, dim=0),
        past_key_values=_read_prompts(model, ids, mask, plan.outputs),
        generation_config=config,
        logits_processor=LogitsProcessorList([_numbers]),
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


@contextmanager
def _sampling(model: torch.nn.Module) -> Iterator[None]:
    """Put *model* in the state for sampling, and back."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


@contextmanager
def _seeded(text: str) -> Iterator[None]:
    """Draw random numbers that *text* decides, and restore the generators afterwards."""
    with torch.random.fork_rng():
        torch.manual_seed(int.from_bytes(sha256(text.encode()).digest()[:8], "big") >> 1)
        yield
