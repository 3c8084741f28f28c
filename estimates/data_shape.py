"""The lengths of a training file's rows, and of the passes that they make."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from random import Random
from typing import Final

from estimates.model_config import ModelConfig

MOST_SAMPLED: Final = 512
"""Rows whose lengths are kept."""
MOST_PASSES: Final = 96
"""Passes that are drawn to find the largest one; a job has the largest of as many, or of a few more."""
MANY_SEQUENCES: Final = 64
"""Packing leaves next to no holes among more sequences than these, so they are not laid out one by one."""
PACKED_GAIN: Final = 0.95
"""The trainer takes another layout than the padded one where it costs less than this part (`trainer.data.packing`)."""


@dataclass(frozen=True, slots=True)
class RowLength:
    """A row in tokens."""

    prompt: int
    """Tokens that are not learnt."""
    answers: tuple[int, ...]
    """Learnt tokens of each answer: one of a chat, two of a pair."""

    @property
    def sequences(self) -> tuple[int, ...]:
        """Tokens of each sequence: the prompt with an answer."""
        return tuple(self.prompt + answer for answer in self.answers)

    def cut(self, most: int) -> RowLength:
        """Return the row with the first *most* tokens of each sequence."""
        prompt = min(self.prompt, most - 1)
        return RowLength(prompt, tuple(min(answer, most - prompt) for answer in self.answers))


@dataclass(frozen=True, slots=True, kw_only=True)
class DataShape:
    """A training file as far as memory and time depend on it."""

    rows: int
    sample: tuple[RowLength, ...]
    """Lengths of rows that stand for all, the longest one among them."""
    shared: int = 0
    """First tokens that all rows have in common, such as those of a system prompt."""
    validation_rows: int = 0
    is_even: bool = False
    """Whether all rows are as long as the longest: nobody counted them."""

    @classmethod
    def even(cls, rows: int, length: int, learnt: int | None = None, answers: int = 1) -> DataShape:
        """Return *rows* rows of *length* tokens each, of which *learnt* are learnt, half of them if None."""
        own = length // 2 if learnt is None else learnt
        row = RowLength(max(1, length - own), (own,) * answers)
        return cls(rows=rows, sample=(row,), is_even=True)

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence."""
        return max(max(row.sequences) for row in self.sample)

    @property
    def mean_tokens(self) -> float:
        """Mean tokens of a row, all its sequences together."""
        return sum(sum(row.sequences) for row in self.sample) / len(self.sample)

    def fitting(self, most: int, *, is_cut: bool) -> DataShape:
        """Return the shape of the rows that a job trains on: without those of more than *most* tokens, or these cut.

        Rows that nobody counted stay as they are, and so does a file of which no row fits: its job is refused.
        """
        kept = tuple(row for row in self.sample if max(row.sequences) <= most)
        if self.is_even or not kept or len(kept) == len(self.sample):
            return self
        if is_cut:
            return replace(self, sample=tuple(row.cut(most) for row in self.sample))
        return replace(self, sample=kept, rows=max(1, round(self.rows * len(kept) / len(self.sample))))

    def cut(self, length: int) -> DataShape:
        """Return the shape whose sequences are all *length* tokens long."""
        parts = [max(row.answers) / max(row.sequences) for row in self.sample]
        learnt = max(1, round(length * sum(parts) / len(parts)))
        answers = len(self.sample[0].answers)
        row = RowLength(max(1, length - learnt), (learnt,) * answers)
        return replace(self, sample=(row,), shared=0, is_even=True)

    def sampling(self, outputs: int, longest: int) -> DataShape:
        """Return the rows of a method that samples *outputs* of up to *longest* tokens for each prompt."""
        rows = tuple(RowLength(sum(row.sequences[:1]), (longest,) * outputs) for row in self.sample)
        return replace(self, sample=rows)


@dataclass(frozen=True, slots=True)
class PassSize:
    """The tensors of one pass through the model."""

    sequences: int
    length: int
    """Tokens of each sequence, padding included."""
    kept: int
    """Positions of each sequence for which logits are computed."""
    is_masked: bool
    """Whether attention is given a mask: without padding and packing the kernel computes the triangle by itself."""

    @property
    def tokens(self) -> int:
        """Places in the pass."""
        return self.sequences * self.length

    @property
    def logits(self) -> int:
        """Rows of logits."""
        return self.sequences * self.kept


@dataclass(frozen=True, slots=True, kw_only=True)
class PassPlan:
    """How rows become passes."""

    rows: int
    """Rows of a pass."""
    packs: bool | None
    """Whether several rows lie in one sequence; None where it is cheaper."""
    shares: bool
    """Whether a beginning that rows have in common may be computed once."""
    token_work: float
    """Work of a token in linear layers, in tokens that it attends to."""


def token_work(model: ModelConfig) -> float:
    """Return the work of a token in the linear layers of a block, in tokens that it attends to.

    Forward and backward, a frozen weight takes 4 operations a token, and a token attended to takes 14 for each number
    of the heads' width: the same count by which the trainer chooses how rows lie (`trainer.data.packing.token_work`).
    """
    width = model.query_width
    weights = model.hidden * (2 * width + 2 * model.kv_width + 3 * model.intermediate)
    return 4 * weights / (14 * width)


def draw_passes(shape: DataShape, plan: PassPlan) -> Iterator[PassSize]:
    """Yield passes of rows that are drawn as an epoch draws them; the same shape and plan give the same passes."""
    count = min(MOST_PASSES, max(1, -(-shape.rows // plan.rows)))
    drawn = Random(0)  # noqa: S311  # lengths, no secrets
    if len(shape.sample) == 1:
        yield pass_of(shape.sample * plan.rows, shape.shared, plan)
        return
    order: list[RowLength] = []
    for _ in range(count):
        while len(order) < plan.rows:
            order += drawn.sample(shape.sample, len(shape.sample))
        yield pass_of(order[: plan.rows], shape.shared, plan)
        del order[: plan.rows]


def pass_of(rows: Sequence[RowLength], shared: int, plan: PassPlan) -> PassSize:
    """Return the pass of *rows* in the layout that costs the least, as `trainer.data.packing` chooses it."""
    padded = _padded(rows)
    if plan.packs is False:
        return padded
    options = [_packed(rows), *([_shared(rows, shared)] if plan.shares else [])]
    best = min(options, key=lambda each: _work(each, plan))
    return best if plan.packs or _work(best, plan) < PACKED_GAIN * _work(padded, plan) else padded


def _work(size: PassSize, plan: PassPlan) -> float:
    return size.tokens * (plan.token_work + size.length)


def _padded(rows: Sequence[RowLength]) -> PassSize:
    lengths = [length for row in rows for length in row.sequences]
    # Logits are computed at every position that is learnt in some row.
    first = min(row.prompt for row in rows)
    return PassSize(len(lengths), max(lengths), max(lengths) - first, len(set(lengths)) > 1)


def _packed(rows: Sequence[RowLength]) -> PassSize:
    """Return all sequences, the longest first, each in the first one that has room for it."""
    found = sorted(
        ((length, answer) for row in rows for length, answer in zip(row.sequences, row.answers, strict=True))
    )
    longest = found[-1][0]
    if len(found) > MANY_SEQUENCES:
        count = -(-sum(length for length, _ in found) // longest)
        return PassSize(count, longest, min(longest, sum(learnt for _, learnt in found)), True)
    bins: list[list[int]] = []
    for length, learnt in reversed(found):
        own = next((one for one in bins if one[0] + length <= longest), None)
        if own is None:
            bins.append(own := [0, 0])
        own[0] += length
        own[1] += learnt
    kept = min(longest, sum(learnt for _, learnt in bins)) if len(bins) > 1 else bins[0][1]
    return PassSize(len(bins), max(length for length, _ in bins), kept, True)


def _shared(rows: Sequence[RowLength], shared: int) -> PassSize:
    """Return all rows in one sequence, in which a prompt and what all rows begin with are there once."""
    own = [max(0, row.prompt - shared) + sum(row.answers) for row in rows]
    # The last token of a prompt predicts what each answer begins with, so each has it for itself.
    again = sum(len(row.answers) - 1 for row in rows)
    return PassSize(1, shared + sum(own) + again, sum(sum(row.answers) for row in rows), True)


def even_sample(lengths: Sequence[RowLength]) -> tuple[RowLength, ...]:
    """Return at most `MOST_SAMPLED` of *lengths*, in equal distances by their size, the longest one among them."""
    ordered = sorted(lengths, key=lambda row: sum(row.sequences))
    step = max(1, -(-len(ordered) // MOST_SAMPLED))
    return tuple(reversed([*islice(reversed(ordered), 0, None, step)]))
