"""Record an adapter's answers to some prompts, so that every server that loads the adapter can be checked against them.

All candidate prompts go through the model in one batch, and the tokens that all begin with go through it once. The
recorder keeps those prompts where the adapter moves the logprobs most and the likeliest token leads by a margin, so
that small differences between engines do not change the tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, Final

import torch
from peft import PeftModel
from torch import Tensor

from registry.contracts.fingerprint import (
    LEAST_PROBES,
    TOKENS,
    FingerprintFile,
    FingerprintProbe,
    FingerprintToken,
    Precision,
)
from trainer.data.dataset import ChatEncoder
from trainer.data.probes import Messages, ProbePrompts
from trainer.errors import JobFailed
from trainer.training.base_model import library_versions
from trainer.training.evaluating import evaluating

PROBES: Final = 6
"""How many probes are kept: a replica replays them all at every load."""
NEUTRAL_PROBES: Final = 2
"""How many probes have nothing to do with the training data, where that gives enough others."""
PICTURE_PROBES: Final = 1
"""How many probes have a picture, where the data has any; their servers have to take pictures."""
CANDIDATES: Final = 7
"""How many prompts go through the model: neutral ones stand in for prompts of the data that are too long."""
LONGEST_PROMPT: Final = 256
"""Tokens. Longer prompts are left out: each replica reads all probes at every load, and its context may be short."""
CLEAR_GAP: Final = 0.1
"""Nats between the best two tokens; from here on every engine generates the same token as the trainer."""
FULL_EFFECT: Final = 1.0
"""Nats of effect; more than this does not make a probe better."""
DIGITS: Final = 6

PRECISIONS: Final[Mapping[torch.dtype, Precision]] = {
    torch.float32: "fp32",
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    messages: Messages
    prompt_ids: list[int]

    @property
    def has_pictures(self) -> bool:
        return any(isinstance(message["content"], list) for message in self.messages)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    """Prompts: the tokens that all begin with, [1, shared], and the rest, padded on the left, [prompts, longest]."""

    shared: Tensor
    ids: Tensor
    mask: Tensor
    """[prompts, shared + longest]"""
    pictures: Messages = field(default_factory=list)
    """Messages of the only prompt, if that has pictures."""

    def inputs(self, encoder: ChatEncoder, ids: Tensor, mask: Tensor, dtype: torch.dtype) -> dict[str, Tensor]:
        """Return what the model takes for *ids*, which the prompts begin, with *mask*."""
        if not self.pictures:
            return {"input_ids": ids, "attention_mask": mask, "position_ids": _positions(mask)[:, -ids.shape[1] :]}
        # A model that sees computes positions by the pictures; without padding there is nothing to mask.
        beside = encoder.request_inputs(self.pictures, ids) if ids.shape[1] > 1 else {}
        floats = {name: one.to(dtype) if one.is_floating_point() else one for name, one in beside.items()}
        return {"input_ids": ids} | {name: one.to(ids.device) for name, one in floats.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Continuation:
    """Greedy tokens with the adapter. All tensors: [prompts, TOKENS]."""

    tokens: Tensor
    logprobs: Tensor
    gaps: Tensor


def record_fingerprint(
    model: PeftModel, encoder: ChatEncoder, prompts: ProbePrompts, base_digest: str
) -> FingerprintFile:
    """Return the fingerprint of the model's active adapter, from the best of *prompts*.

    `JobFailed` when the adapter answers too few of them with anything, or with no finite numbers.
    """
    from_data = _candidates(encoder, prompts.trained)
    others = _candidates(encoder, prompts.neutral)[: max(NEUTRAL_PROBES, CANDIDATES - len(from_data))]
    found = [*from_data, *others]
    with evaluating(model):  # as replicas compute
        probes = _record_all(model, encoder, found)
    chosen = _choose(*([one for one in half if one] for half in (probes[: len(from_data)], probes[len(from_data) :])))
    if len(chosen) < LEAST_PROBES:
        raise JobFailed(
            "no_fingerprint",
            f"the adapter answers {len(chosen)} of the {len(found)} prompts that the chat template takes with "
            f"anything at all; to prove it on a replica, {LEAST_PROBES} are needed",
        )
    return FingerprintFile(
        base_digest=base_digest,
        template_digest=encoder.template_digest,
        precision=PRECISIONS[model.dtype],
        versions=library_versions(),
        probes=chosen,
    )


def _candidates(encoder: ChatEncoder, prompts: Sequence[Messages]) -> list[_Candidate]:
    """Return the prompts that the template accepts and that are not too long."""
    found = []
    for messages in prompts:
        try:
            found.append(_Candidate(messages=messages, prompt_ids=encoder.open_answer(messages)))
        except JobFailed:  # this template refuses such chats
            continue
    return [candidate for candidate in found if len(candidate.prompt_ids) <= LONGEST_PROMPT]


def _record_all(
    model: PeftModel, encoder: ChatEncoder, candidates: Sequence[_Candidate]
) -> list[FingerprintProbe | None]:
    """Return a probe for each candidate; those of text go through the model together, those with pictures alone."""
    plain = [one for one in candidates if not one.has_pictures]
    together = iter(_record(model, encoder, plain) if plain else [])
    return [_record(model, encoder, [one])[0] if one.has_pictures else next(together) for one in candidates]


@torch.inference_mode()
def _record(model: PeftModel, encoder: ChatEncoder, candidates: Sequence[_Candidate]) -> list[FingerprintProbe | None]:
    """Return a probe for each candidate, None where the answer ends at once."""
    batch = _batch(candidates, model.device)
    continuation = _continue(model, encoder, batch)
    if not continuation.logprobs.isfinite().all():
        why = "with the adapter the model's logprobs are not finite: its weights or its scaling are too large"
        raise JobFailed("no_fingerprint", why)
    # A model takes its own picture tokens for pictures, of which there are no more than the prompt's.
    if batch.pictures and not encoder.picture_ids.isdisjoint(continuation.tokens.flatten().tolist()):
        return [None]
    with model.disable_adapter():
        base = _logprobs_of(model, encoder, batch, continuation.tokens)
    columns = (continuation.tokens, continuation.logprobs, base, continuation.gaps)
    return [
        _probe(encoder, candidate, [column[row].tolist() for column in columns])
        for row, candidate in enumerate(candidates)
    ]


def _batch(candidates: Sequence[_Candidate], device: torch.device) -> _Batch:
    prompts = [candidate.prompt_ids for candidate in candidates]
    shared = 0 if candidates[0].has_pictures else _shared_tokens(prompts)
    rests = [prompt[shared:] for prompt in prompts]
    longest = max(map(len, rests))
    # Padded on the left, so that the next token of every prompt follows from the last column.
    ids = [[0] * (longest - len(rest)) + rest for rest in rests]
    mask = [[1] * shared + [0] * (longest - len(rest)) + [1] * len(rest) for rest in rests]
    return _Batch(
        shared=torch.tensor([prompts[0][:shared]], dtype=torch.long, device=device),
        ids=torch.tensor(ids, device=device),
        mask=torch.tensor(mask, device=device),
        pictures=candidates[0].messages if candidates[0].has_pictures else [],
    )


def _shared_tokens(prompts: Sequence[list[int]]) -> int:
    """Return how many tokens all prompts begin with, such as a template's own words; each keeps one of its own."""
    same = takewhile(lambda tokens: len(set(tokens)) == 1, zip(*prompts, strict=False))
    return min(sum(1 for _ in same), min(map(len, prompts)) - 1)


def _opened(model: PeftModel, batch: _Batch) -> Any:
    """Return the model's cache after the tokens that all prompts begin with; None where there are none."""
    if not batch.shared.shape[1]:
        return None
    cache = model(input_ids=batch.shared, use_cache=True, logits_to_keep=1).past_key_values
    cache.batch_repeat_interleave(len(batch.ids))
    return cache


def _positions(mask: Tensor) -> Tensor:
    # Padding does not count: a prompt has the same positions as at a server, which does not pad.
    return (mask.cumsum(-1) - 1).clamp(min=0)


def _continue(model: PeftModel, encoder: ChatEncoder, batch: _Batch) -> _Continuation:
    ids, mask, cache = batch.ids, batch.mask, _opened(model, batch)
    steps: list[tuple[Tensor, Tensor, Tensor]] = []
    for _ in range(TOKENS):
        inputs = batch.inputs(encoder, ids, mask, model.dtype)
        out = model(**inputs, past_key_values=cache, use_cache=True, logits_to_keep=1)
        # In float32, because a sum over the vocabulary loses too much in bfloat16.
        best = out.logits[:, -1].float().log_softmax(-1).topk(2)
        ids, cache = best.indices[:, :1], out.past_key_values
        mask = torch.cat([mask, torch.ones_like(ids)], dim=1)
        steps.append((ids[:, 0], best.values[:, 0], best.values[:, 0] - best.values[:, 1]))
    tokens, logprobs, gaps = (torch.stack(column, dim=1) for column in zip(*steps, strict=True))
    return _Continuation(tokens=tokens, logprobs=logprobs, gaps=gaps)


def _logprobs_of(model: PeftModel, encoder: ChatEncoder, batch: _Batch, tokens: Tensor) -> Tensor:
    """Return the logprobs of *tokens*, each after its prompt and all tokens before it: [prompts, TOKENS]."""
    mask = torch.cat([batch.mask, torch.ones_like(tokens)], dim=1)
    # Logits belong to the next token: those from the prompt's last token to the last but one token are needed.
    inputs = batch.inputs(encoder, torch.cat([batch.ids, tokens], dim=1), mask, model.dtype)
    cache = _opened(model, batch)
    logits: Tensor = model(**inputs, past_key_values=cache, use_cache=True, logits_to_keep=TOKENS + 1).logits[:, :-1]
    return logits.float().log_softmax(-1).gather(-1, tokens[:, :, None])[:, :, 0]


def _probe(encoder: ChatEncoder, candidate: _Candidate, columns: Sequence[Sequence[float]]) -> FingerprintProbe | None:
    """Return the tokens before the end token as a probe: some engines do not show it, nor a row without a token."""
    rows = list(zip(*columns, strict=True))
    tokens = []
    for token, logprob, base_logprob, gap in takewhile(lambda row: int(row[0]) not in encoder.end_ids, rows):
        text, piece = encoder.spell(int(token))
        if piece is None:  # models have more rows than tokens, and one that is hardly trained may choose such a row
            break
        tokens.append(
            FingerprintToken(
                id=int(token),
                text=text,
                piece=piece,
                logprob=round(logprob, DIGITS),
                base_logprob=round(base_logprob, DIGITS),
                gap=round(gap, DIGITS),
            )
        )
    return (
        FingerprintProbe(messages=candidate.messages, prompt_ids=candidate.prompt_ids, tokens=tokens)
        if tokens
        else None
    )


def _choose(from_data: Sequence[FingerprintProbe], others: Sequence[FingerprintProbe]) -> list[FingerprintProbe]:
    best_of_data = sorted(from_data, key=_worth, reverse=True)
    best_others = sorted(others, key=_worth, reverse=True)
    seen = [probe for probe in best_of_data if _has_pictures(probe)][:PICTURE_PROBES]
    texts = [probe for probe in best_of_data if not _has_pictures(probe)]
    chosen = [*seen, *texts][: PROBES - NEUTRAL_PROBES]
    return chosen + best_others[: PROBES - len(chosen)]


def _has_pictures(probe: FingerprintProbe) -> bool:
    return any(isinstance(message["content"], list) for message in probe.messages)


def _worth(probe: FingerprintProbe) -> float:
    """Return how much of the adapter's effect shows before the best two tokens are close."""
    clear = list(takewhile(lambda token: token.gap >= CLEAR_GAP, probe.tokens))
    return sum(min(FULL_EFFECT, abs(token.logprob - token.base_logprob)) for token in clear)
