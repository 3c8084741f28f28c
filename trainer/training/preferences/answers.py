"""Answers in a batch: the rows that they consist of, and their logprobs by a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from trainer.data.encoded_row import IGNORED, EncodedRow
from trainer.data.packing import RowCollator, model_inputs, sum_by_row
from trainer.training.objective import Batch

Answer = Sequence[EncodedRow]
"""An answer with its prompt; several rows where the template changes earlier turns once later ones follow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerLogprobs:
    """Over the learnt tokens of each answer, [answers]."""

    sums: Tensor
    """Logprobs in nats."""
    lengths: Tensor
    """Numbers of tokens."""

    @property
    def means(self) -> Tensor:
        """Mean logprob of a token."""
        return self.sums / self.lengths


def collate_answers(collator: RowCollator, answers: Sequence[Answer]) -> dict[str, Tensor]:
    """Return the batch of all rows of *answers*; `answer_of_row` [rows] says which answer each belongs to."""
    owners = [at for at, answer in enumerate(answers) for _ in answer]
    rows = [row for answer in answers for row in answer]
    return {**collator(rows), "answer_of_row": torch.tensor(owners)}


def answer_logprobs(model: torch.nn.Module, batch: Batch, answers: int) -> AnswerLogprobs:
    """Return the logprobs of the *answers* answers of a batch of `collate_answers`."""
    logits = model(**model_inputs(batch)).logits
    labels = batch["labels"]
    logprobs = -cross_entropy(
        logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED, reduction="none"
    ).view_as(labels)
    return AnswerLogprobs(
        sums=sum_by_answer(logprobs, batch, answers),
        lengths=sum_by_answer((labels != IGNORED).to(logprobs.dtype), batch, answers),
    )


def sum_by_answer(values: Tensor, batch: Batch, answers: int) -> Tensor:
    """Return the sums, [answers], of *values* [sequences, kept] over the learnt tokens of each answer."""
    by_row = sum_by_row(values, batch)
    return torch.zeros(answers, dtype=by_row.dtype, device=by_row.device).index_add(0, batch["answer_of_row"], by_row)
