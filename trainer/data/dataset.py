"""Encode chats as tokens with the base model's own chat template, and mark the learnt tokens.

The template is the one in the model folder, which the engine renders with too; nothing is added to it. The text that an
assistant turn adds to the rendered chat, up to and including its end token, is learnt; the text before it is given.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import takewhile
from pathlib import Path
from typing import Any, Final

import torch
from jinja2 import TemplateError
from transformers import AutoTokenizer, GenerationConfig

from registry.contracts.training_file import TrainingRow, read_training_rows
from trainer.errors import JobFailed

# The value is given: transformers' Trainer counts the labels other than -100 to average the loss.
IGNORED: Final = -100
"""Label of a token without loss."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedRow:
    """A chat as tokens. `labels` repeats the learnt ids and is `IGNORED` elsewhere; both have the same length."""

    line: int
    input_ids: tuple[int, ...]
    labels: tuple[int, ...]


class ChatEncoder:
    """Encodes rows as tokens for one base model."""

    def __init__(self, base_folder: Path) -> None:
        """Raise `JobFailed` if the folder has no tokenizer or no chat template."""
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(base_folder, local_files_only=True)
        except (OSError, ValueError) as exc:
            raise JobFailed("base_unreadable", f"the tokenizer of the base model cannot be loaded: {exc}") from exc
        if not self._tokenizer.chat_template:
            raise JobFailed(
                "no_chat_template", "the base model has no chat template, so it cannot learn from chats", "model"
            )
        self._end_ids = _end_ids(base_folder, self._tokenizer.eos_token_id)

    def encode(self, row: TrainingRow) -> EncodedRow:
        """Return *row* as tokens; `JobFailed` names its line if the template refuses it or mixes the turns."""
        messages = [message.as_template_input() for message in row.messages]
        text = self._render(row.line, messages)
        ids = self._ids(text)
        labels = [IGNORED] * len(ids)
        for at, message in enumerate(row.messages):
            if message.is_learnt:
                opened = self._render(row.line, messages[:at], opens_answer=True)
                closed = self._render(row.line, messages[: at + 1])
                if not (text.startswith(opened) and text.startswith(closed)):
                    raise JobFailed(
                        "template_not_trainable",
                        f"line {row.line}: messages[{at}]: the base model's chat template renders earlier turns "
                        "differently once later ones follow, so that answers cannot be told apart; split the chat",
                        "training_file",
                    )
                start, end = _shared(ids, self._ids(opened)), _shared(ids, self._ids(closed))
                end = self._end_of_answer(row.line, at, ids, (start, end))
                labels[start:end] = ids[start:end]
        return EncodedRow(line=row.line, input_ids=tuple(ids), labels=tuple(labels))

    @property
    def end_ids(self) -> frozenset[int]:
        """Ids at which the engine stops."""
        return self._end_ids

    @property
    def template_digest(self) -> str:
        """sha256 of the chat template's text."""
        return sha256(str(self._tokenizer.chat_template).encode()).hexdigest()

    def open_answer(self, messages: list[dict[str, str]]) -> list[int]:
        """Return *messages* as tokens, ready for the assistant's answer; `JobFailed` if the template refuses them."""
        return self._ids(self._render(0, messages, opens_answer=True))

    def spell(self, token: int) -> tuple[str, str]:
        """Return the token as text, and as the vocabulary spells it."""
        return self._tokenizer.decode([token]), self._tokenizer.convert_ids_to_tokens(token)

    def _end_of_answer(self, line: int, at: int, ids: Sequence[int], span: tuple[int, int]) -> int:
        """Return the index after the answer's end token: a model that does not learn this token never stops."""
        ends = [index for index in range(*span) if ids[index] in self._end_ids]
        if not ends:
            raise JobFailed(
                "template_not_trainable",
                f"line {line}: messages[{at}]: the base model's chat template puts no end token after an answer",
                "training_file",
            )
        return ends[-1] + 1

    def _render(self, line: int, messages: list[dict[str, str]], *, opens_answer: bool = False) -> str:
        try:
            text: str = self._tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=opens_answer
            )
        except TemplateError as exc:
            raise JobFailed(
                "template_refused", f"line {line}: the base model's chat template refuses it: {exc}", "training_file"
            ) from exc
        return text

    def _ids(self, text: str) -> list[int]:
        # The template writes the special tokens itself; the tokenizer would add the first one a second time.
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids


def read_rows(path: Path, encoder: ChatEncoder, max_length: int, param: str) -> list[EncodedRow]:
    """Return every chat of the file at *path* as tokens, uncut and complete; `JobFailed` names one that is too long.

    Raises `TrainingFileInvalid` too. *param* is the field of the job that names the file.
    """
    with path.open("rb") as lines:
        rows = [encoder.encode(row) for row in read_training_rows(lines)]
    long = [row for row in rows if len(row.input_ids) > max_length]
    if long:
        more = f" ({len(long)} lines are too long)" if len(long) > 1 else ""
        raise JobFailed(
            "row_too_long",
            f"line {long[0].line}: {len(long[0].input_ids)} tokens, more than max_length {max_length}{more}; "
            "shorten it or raise max_length",
            param,
        )
    return rows


def collate(rows: Sequence[EncodedRow]) -> Mapping[str, torch.Tensor]:
    """Return a batch for a causal model that computes logits only where a row of the batch is learnt.

    input_ids, attention_mask: [rows, longest], padded on the right with a masked 0. logits_to_keep: [kept], the
    positions whose successor is learnt in some row. labels: [rows, kept], the successor or `IGNORED`.
    """
    longest = max(len(row.input_ids) for row in rows)
    ids = torch.tensor([_padded(row.input_ids, longest, 0) for row in rows])
    mask = torch.tensor([_padded([1] * len(row.input_ids), longest, 0) for row in rows])
    # Shifted here instead of in the model, which computes logits for `logits_to_keep` only.
    successors = torch.tensor([_padded(row.labels[1:], longest, IGNORED) for row in rows])
    kept = (successors != IGNORED).any(dim=0).nonzero().squeeze(1)
    return {"input_ids": ids, "attention_mask": mask, "logits_to_keep": kept, "labels": successors[:, kept]}


def _padded(values: Sequence[int], length: int, filler: int) -> list[int]:
    return [*values, *[filler] * (length - len(values))]


def _shared(ids: Iterable[int], prefix: Iterable[int]) -> int:
    """Count the tokens that both begin with; a token that spans the border belongs to the later text."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(ids, prefix, strict=False)))


def _end_ids(base_folder: Path, eos_token_id: int | None) -> frozenset[int]:
    """Return the ids at which the engine stops: the tokenizer's, and those of the folder's generation settings."""
    ends: Any = None
    if (base_folder / "generation_config.json").exists():
        ends = GenerationConfig.from_pretrained(base_folder, local_files_only=True).eos_token_id
    listed = ends if isinstance(ends, list) else [ends]
    return frozenset(token for token in [eos_token_id, *listed] if token is not None)
