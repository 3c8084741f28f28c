"""A model that gives a chat a score: a base model with an adapter, its head for tokens replaced by one for the score.

The score of a chat stands at the end token of its last answer: the hidden state there times the head. A row of tokens
therefore ends with one more token, whose only purpose is that the layout of rows keeps the position before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from registry.contracts.training_file import TrainingRow
from registry.contracts.training_message import ChatMessage
from registry.publishing.score_head import SCORE_HEAD, SCORE_WEIGHT
from trainer.data.dataset import ChatEncoder
from trainer.data.encoded_row import IGNORED, EncodedRow, collate
from trainer.training.base_model import load_base
from trainer.training.objective import Batch

ROWS_AT_ONCE: Final = 8
NO_TOKEN: Final = 0


def replace_head(model: PreTrainedModel | PeftModel) -> nn.Linear:
    """Put a score head, zero at first, in place of the model's head for tokens and return it."""
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    head = nn.Linear(base.config.get_text_config().hidden_size, 1, bias=False, dtype=base.dtype, device=base.device)
    nn.init.zeros_(head.weight)
    base.set_output_embeddings(head)
    return head


def save_head(weight: Tensor, folder: Path) -> None:
    """Write the weight of a head beside an adapter, or into a checkpoint."""
    save_file({SCORE_WEIGHT: weight.detach().cpu().contiguous()}, folder / SCORE_HEAD)


def load_head(head: nn.Linear, folder: Path) -> None:
    """Read what `save_head` wrote."""
    with torch.no_grad():
        head.weight.copy_(load_file(folder / SCORE_HEAD)[SCORE_WEIGHT])


def encode_scored(encoder: ChatEncoder, chat: TrainingRow, longest: int | None = None) -> EncodedRow:
    """Return *chat* up to the end of its last message, with one token more, before which the score stands.

    A chat of more than *longest* tokens comes back without labels, so that it can be reported.
    """
    last = replace(chat.messages[-1], is_learnt=True)
    before = [replace(message, is_learnt=False) for message in chat.messages[:-1]]
    [row] = encoder.encode(replace(chat, messages=(*before, last)), longest)
    learnt = [at for at, label in enumerate(row.labels) if label != IGNORED]
    if not learnt:
        return row
    ids = row.input_ids[: learnt[-1] + 1]
    return EncodedRow(line=row.line, input_ids=(*ids, NO_TOKEN), labels=(*[IGNORED] * len(ids), NO_TOKEN))


def read_scores(logits: Tensor, batch: Batch) -> Tensor:
    """Return the logits of a score head, [sequences, kept, 1], as zeros but at the positions of scores."""
    scores: Tensor = logits[..., 0].float() * (batch["labels"] != IGNORED)
    return scores


class RewardModel:
    """A reward model of ours, loaded from its revision's folder, on its base model."""

    def __init__(self, base_folder: Path, folder: Path) -> None:
        """Raise `JobFailed` if the base model cannot be loaded. *folder* is that of the revision."""
        self._encoder = ChatEncoder(base_folder)
        base = load_base(base_folder)
        head = replace_head(base)
        load_head(head, folder)
        self._model = PeftModel.from_pretrained(base, folder).eval()

    def score(self, messages: Sequence[Mapping[str, str]], answer: str) -> float:
        """Return the score of *answer* after *messages*, each with `role` and `content`; higher is better."""
        chat = [*messages, {"role": "assistant", "content": answer}]
        turns = tuple(ChatMessage(role=turn["role"], content=turn["content"], is_learnt=False) for turn in chat)
        return self.score_chats([TrainingRow(line=1, messages=turns)])[0]

    @torch.no_grad()
    def score_chats(self, chats: Sequence[TrainingRow]) -> list[float]:
        """Return the score of the last message of each chat, in their order; `JobFailed` if the template refuses."""
        rows = [encode_scored(self._encoder, chat) for chat in chats]
        scores: list[float] = []
        for at in range(0, len(rows), ROWS_AT_ONCE):
            batch: dict[str, Any] = {
                name: tensor.to(self._model.device) for name, tensor in collate(rows[at : at + ROWS_AT_ONCE]).items()
            }
            labels = batch.pop("labels")
            logits = self._model(**batch, use_cache=False).logits
            scores += read_scores(logits, {"labels": labels}).sum(-1).tolist()
        return scores
