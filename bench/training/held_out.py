"""Figures of held-out pairs of answers: what a trained model makes of them beside the untrained one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from peft import PeftModel

from registry.contracts.training_formats import PAIRS, read_lines
from trainer.data.dataset import ChatEncoder
from trainer.data.packing import RowCollator
from trainer.training.base_model import load_base
from trainer.training.preferences.answers import AnswerLogprobs, answer_logprobs, collate_answers

ANSWERS_AT_ONCE: Final = 8
LONGEST: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """Figures over the pairs of a file."""

    accuracy: float
    """Share of the pairs whose preferred answer has gained more than the other one, as against the base model."""
    margin: float
    """Nats by which it has, in the mean."""
    loss: float
    """Nats of a token of the preferred answers."""


def held_out(found: AnswerLogprobs, base: AnswerLogprobs) -> HeldOut:
    """Return the figures of a model by what `read_answers` *found* with it and with the *base* model."""
    gained = (found.sums - base.sums).view(-1, 2)
    margins = gained[:, 0] - gained[:, 1]
    return HeldOut(
        accuracy=float((margins > 0).float().mean()),
        margin=float(margins.mean()),
        loss=-float(found.means.view(-1, 2)[:, 0].mean()),
    )


@torch.no_grad()
def read_answers(base: Path, adapter: Path | None, pairs: Path) -> AnswerLogprobs:
    """Return the logprobs of both answers of each pair by the model in *base* with *adapter*; preferred ones first."""
    torch.set_num_threads(1)
    encoder, model = ChatEncoder(base), load_base(base)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter)
    collator = RowCollator(packing=None)
    collator.fit(model.eval(), dropout=0.0)
    with pairs.open("rb") as lines:
        answers = [encoder.encode(chat, LONGEST) for row in read_lines(lines, (PAIRS,)) for chat in row.chats]
    parts = [answers[at : at + ANSWERS_AT_ONCE] for at in range(0, len(answers), ANSWERS_AT_ONCE)]
    found = [answer_logprobs(model, collate_answers(collator, part), len(part)) for part in parts]
    return AnswerLogprobs(
        sums=torch.cat([each.sums for each in found]), lengths=torch.cat([each.lengths for each in found])
    )
