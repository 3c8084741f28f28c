"""From logits to tokens: one decision for all sequences of a step."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import torch
from torch import Tensor

from engines.transformers.constraints.constraint import Constraint

LEAST_TEMPERATURE: Final = 1e-5
"""Colder than this the likeliest token is taken: logits divided by less would leave the range of float32."""
NUCLEUS_TRIED: Final = 256
"""Number of likeliest tokens that are sorted first; the whole vocabulary only if `top_p` reaches further."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """The checked parameters by which one sequence's tokens are chosen."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    """0: no limit."""
    min_p: float = 0.0
    """Tokens whose probability is less than this part of the likeliest one's are not drawn."""
    repetition_penalty: float = 1.0
    min_tokens: int = 0
    """So many tokens come before the answer may end."""
    seed: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    top_logprobs: int | None = None
    """Number of alternatives to report beside the token's own logprob; None reports nothing."""


@dataclass(slots=True)
class Chooser:
    """The parameters of one sequence with the state that they need."""

    params: SamplingParams
    random: random.Random
    seen: Counter[int] = field(default_factory=Counter)
    """Count of each generated token, for the penalties."""
    prompt: frozenset[int] = frozenset()
    """The tokens of the prompt, for the repetition penalty."""
    end_tokens: frozenset[int] = frozenset()
    constraint: Constraint | None = None
    """The form that the answer must have."""

    def accept(self, token: int) -> None:
        """Note the next token."""
        self.seen[token] += 1
        if self.constraint is not None:
            self.constraint.advance(token)


class Alternative(NamedTuple):
    """A token with its logprob under the model."""

    token: int
    logprob: float


class ChosenToken(NamedTuple):
    """The next token of one sequence."""

    token: int
    logprob: float | None
    alternatives: tuple[Alternative, ...]


@dataclass(slots=True)
class PromptScores:
    """The logprobs of a prompt's own tokens under the model, from the second token on: nothing foretells the first."""

    top: int
    """Number of alternatives beside each token's own logprob."""
    entries: list[ChosenToken] = field(default_factory=list)
    ranks: list[int] = field(default_factory=list)
    """The place of each entry among all tokens, 1 for the likeliest."""

    @classmethod
    def beginning(cls, prompt: Sequence[int], top: int) -> PromptScores:
        """Return the scores of *prompt* before the model ran; a prompt without tokens has none."""
        first = [ChosenToken(token, None, ()) for token in prompt[:1]]
        return cls(top, first, [0] * len(first))

    @torch.inference_mode()
    def note(self, tokens: Sequence[int], logits: Tensor) -> None:
        """Append *tokens*, each of which the row of *logits*, [tokens, vocabulary], in its place foretells."""
        for token, logprobs in zip(tokens, torch.log_softmax(logits, -1), strict=True):
            self.entries.append(report(token, logprobs, self.top))
            self.ranks.append(1 + int((logprobs > logprobs[token]).sum()))


def chooser(
    params: SamplingParams,
    choice_index: int,
    *,
    prompt: Sequence[int] = (),
    end_tokens: frozenset[int] = frozenset(),
    constraint: Constraint | None = None,
) -> Chooser:
    """Make the chooser of choice *choice_index* of a request; with a seed its tokens depend on nothing else."""
    source = None if params.seed is None else f"{params.seed}/{choice_index}"
    return Chooser(
        params,
        random.Random(source),  # noqa: S311 - chance, not secrecy
        prompt=frozenset(prompt) if params.repetition_penalty != 1 else frozenset(),
        end_tokens=end_tokens,
        constraint=constraint,
    )


@torch.inference_mode()
def choose(logits: Tensor, choosers: Sequence[Chooser]) -> list[ChosenToken]:
    """Choose the next token of each row of *logits*, [sequences, vocabulary]; logprobs are the model's, unchanged.

    *logits* are changed in place.
    """
    # Before `adjust` changes the logits: clients get the logprobs of the model itself.
    reported = report_wanted(logits, choosers)
    adjust(logits, choosers)
    tokens = logits.argmax(-1).tolist()
    sampled = [row for row, one in enumerate(choosers) if one.params.temperature >= LEAST_TEMPERATURE]
    if sampled:
        drawn = draw(logits[sampled], [choosers[row] for row in sampled])
        tokens = [dict(zip(sampled, drawn, strict=True)).get(row, token) for row, token in enumerate(tokens)]
    for one, token in zip(choosers, tokens, strict=True):
        one.accept(token)
    return [
        report(token, reported.get(row), one.params.top_logprobs or 0)
        for (row, token), one in zip(enumerate(tokens), choosers, strict=True)
    ]


def adjust(logits: Tensor, choosers: Sequence[Chooser]) -> None:
    """Apply penalties, bias and then the form of the answer, in place.

    A penalty is OpenAI's, as documented there: `logit -= count * frequency + (count > 0) * presence`. The repetition
    penalty is that of CTRL (Keskar et al., 2019, arXiv:1909.05858, section 4.1), over prompt and answer: it divides a
    logit above 0 and multiplies one below.
    """
    for row, one in enumerate(choosers):
        params = one.params
        if params.repetition_penalty != 1:
            met = torch.tensor(sorted(one.prompt | one.seen.keys()))
            found = logits[row, met]
            logits[row, met] = torch.where(
                found > 0, found / params.repetition_penalty, found * params.repetition_penalty
            )
        if one.seen.total() < params.min_tokens:
            logits[row, sorted(one.end_tokens)] = float("-inf")
        changes = dict(params.logit_bias)
        if params.presence_penalty or params.frequency_penalty:
            for token, count in one.seen.items():
                penalty = count * params.frequency_penalty + params.presence_penalty
                changes[token] = changes.get(token, 0.0) - penalty
        if changes:
            logits[row, list(changes)] += torch.tensor(list(changes.values()))
        if one.constraint is not None:
            one.constraint.narrow(logits[row])


def draw(logits: Tensor, choosers: Sequence[Chooser]) -> list[int]:
    """Sample each row at its temperature within its `top_p`, `top_k` and `min_p`, by one uniform number a row."""
    temperatures = torch.tensor([one.params.temperature for one in choosers])
    probabilities = torch.softmax(logits / temperatures[:, None], -1)
    for row, one in enumerate(choosers):
        if one.params.min_p:
            weights = probabilities[row]
            weights.masked_fill_(weights < one.params.min_p * weights.max(), 0.0)
    # Each sequence has its own source of randomness: with a seed, the other rows of the batch change nothing.
    uniform = torch.tensor([one.random.random() for one in choosers])
    tokens = pick(probabilities, uniform).tolist()
    for row, one in enumerate(choosers):
        if one.params.top_p < 1 or one.params.top_k:
            tokens[row] = draw_nucleus(probabilities[row], uniform[row], one.params)
    return [int(token) for token in tokens]


def draw_nucleus(probabilities: Tensor, uniform: Tensor, params: SamplingParams) -> int:
    """Sample among the fewest likeliest tokens that together reach `top_p`, at most `top_k`; never among none."""
    size = probabilities.shape[0]
    limit = min(params.top_k or size, size)
    kept, tokens = torch.topk(probabilities, min(limit, NUCLEUS_TRIED))
    if kept.sum() < params.top_p and len(kept) < limit:
        kept, tokens = torch.sort(probabilities, descending=True)
        kept = kept[:limit]
    # A token stays while those before it do not reach `top_p`, so the one that crosses the limit is the last.
    before = kept.cumsum(0) - kept
    stays = before < params.top_p
    stays[0] = True  # a `top_p` of 0, or one that float32 rounds to 0, is reached before any token
    kept = torch.where(stays, kept, 0.0)
    return int(tokens[pick(kept[None], uniform[None])[0]])


def pick(weights: Tensor, uniform: Tensor) -> Tensor:
    """Return the index in each row where the running sum of *weights* passes *uniform* of its total."""
    # In float32 the running sum over a whole vocabulary would swallow small weights.
    sums = weights.cumsum(-1, dtype=torch.float64)
    found = torch.searchsorted(sums, (uniform * sums[:, -1])[:, None], right=True)[:, 0]
    # Rounded to float32, `uniform` may be 1.0, which no sum passes: then the last token with a weight is chosen.
    last = (weights > 0).to(torch.uint8).flip(-1).argmax(-1)
    return torch.minimum(found, weights.shape[-1] - 1 - last)


def report_wanted(logits: Tensor, choosers: Sequence[Chooser]) -> dict[int, Tensor]:
    """Return row -> logprobs of the whole vocabulary, for the rows that want some."""
    rows = [row for row, one in enumerate(choosers) if one.params.top_logprobs is not None]
    if not rows:
        return {}
    return dict(zip(rows, torch.log_softmax(logits[rows], -1), strict=True))


def report(token: int, logprobs: Tensor | None, alternatives: int) -> ChosenToken:
    """Return the token with its logprob and the likeliest *alternatives*; without them where there are no logprobs."""
    if logprobs is None:
        return ChosenToken(token, None, ())
    likeliest = torch.topk(logprobs, alternatives)
    pairs = zip(likeliest.indices.tolist(), likeliest.values.tolist(), strict=True)
    return ChosenToken(token, float(logprobs[token]), tuple(Alternative(*pair) for pair in pairs))
