"""Encode chats as tokens with the base model's own chat template, and mark the learnt tokens.

The template is the one in the model folder, which the engine renders with too; nothing is added to it. The text that an
assistant turn adds to the rendered chat, up to and including its end token, is learnt; the text before it is given.
A turn that the template renders differently once later turns follow is learnt in a row of its own, as the engine will
have rendered the chat when the turn is due.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, GenerationConfig

from conversations.chat_template import ChatTemplate, TemplateRefused
from conversations.turns import Call, Turn, turn_role
from registry.contracts.chat_template import read_processor_template
from registry.contracts.plain_text import PlainText
from registry.contracts.training_file import TrainingRow
from registry.contracts.training_formats import CHATS_OR_TEXTS, LineFormat, TrainingLine, read_lines
from registry.contracts.training_message import ChatMessage
from trainer.data.encoded_row import IGNORED, EncodedRow
from trainer.data.fitting_rows import FittingRows
from trainer.data.rendered_answer import AnswerFinder, RenderedAnswer, TemplateChat, shared, without_end
from trainer.errors import JobFailed, RowUnfit


class ChatEncoder:
    """Encodes rows as tokens for one base model."""

    def __init__(self, base_folder: Path) -> None:
        """Raise `JobFailed` if the folder has no tokenizer or no chat template."""
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(base_folder, local_files_only=True)
        except (OSError, ValueError) as exc:
            raise JobFailed("base_unreadable", f"the tokenizer of the base model cannot be loaded: {exc}") from exc
        if not self._tokenizer.chat_template:
            self._tokenizer.chat_template = read_processor_template(base_folder)
        if not self._tokenizer.chat_template:
            raise JobFailed(
                "no_chat_template", "the base model has no chat template, so it cannot learn from chats", "model"
            )
        self._template = ChatTemplate(self._tokenizer)
        self._end_ids = _end_ids(base_folder, self._tokenizer.eos_token_id)
        self._end_texts = [self._tokenizer.decode([token]) for token in sorted(self._end_ids)]

    def encode(self, row: TrainingRow, longest: int | None = None) -> list[EncodedRow]:
        """Return *row* as tokens, in several rows where the template changes earlier turns once later ones follow.

        A row of more than *longest* tokens comes back without labels. `JobFailed` names the line if the template
        refuses the chat, leaves tools out, or hides where an answer begins or ends.
        """
        if row.text is not None:
            return [self._encode_text(row.line, row.text)]
        chat = self._chat(row)
        text = self._render(chat)
        self._check_tools(chat, text)
        ids = self._ids(text)
        labels, alone = [IGNORED] * len(ids), []
        learnt = [at for at, message in zip(chat.places, row.messages, strict=True) if message.is_learnt]
        finder = AnswerFinder(render=self._render, as_content=self._template_content, end_texts=self._end_texts)
        # Each answer costs two renderings of the chat, so a row that is refused for its length is not searched.
        for at in learnt if longest is None or len(ids) <= longest else []:
            answer = finder.find(chat, text, at)
            if answer.text == text:
                self._mark(chat, at, labels, (ids, answer))
            else:
                own = self._ids(answer.text)
                own_labels = [IGNORED] * len(own)
                self._mark(chat, at, own_labels, (own, answer))
                alone.append(self._encoded(row, answer.text, own, own_labels))
        whole = self._encoded(row, text, ids, labels)
        return alone if len(alone) == len(learnt) else [whole, *alone]

    def batch_inputs(self, rows: Sequence[EncodedRow], input_ids: torch.Tensor) -> Mapping[str, torch.Tensor]:
        """Return what a model takes of *rows* beside their padded tokens *input_ids*: nothing of texts."""
        return {}

    @property
    def picture_ids(self) -> frozenset[int]:
        """Ids of the tokens that stand for pictures."""
        return frozenset()

    def request_inputs(self, messages: Sequence[Mapping[str, Any]], input_ids: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return what a model takes of a request's *messages* beside their tokens *input_ids*: nothing of texts."""
        return {}

    def picture_prompts(self, path: Path, wanted: tuple[LineFormat[TrainingLine], ...]) -> list[list[dict[str, Any]]]:
        """Return prompts with small pictures of the file at *path*: none for a base model that takes no pictures."""
        return []

    def _chat(self, row: TrainingRow) -> TemplateChat:
        prepared = self._template.prepare([self._turn(message) for message in row.messages], row.tools)
        return TemplateChat(line=row.line, messages=prepared.messages, tools=prepared.tools, places=prepared.places)

    def _turn(self, message: ChatMessage) -> Turn:
        calls = [
            Call(name=call["function"]["name"], arguments=call["function"]["arguments"], id=call.get("id", ""))
            for call in message.tool_calls
        ]
        return Turn(
            role=turn_role(message.role),
            content=self._content_of(message),
            name=message.name,
            calls=tuple(calls),
            call_id=message.tool_call_id,
        )

    def _content_of(self, message: ChatMessage) -> Any:
        return message.content

    def _template_content(self, content: Any) -> Any:
        """Return the content of a request's message as the template takes it."""
        return content

    def _encoded(self, row: TrainingRow, text: str, ids: Sequence[int], labels: Sequence[int]) -> EncodedRow:
        """Return the row whose rendered chat, or its beginning, is *text*."""
        if row.pictures:
            why = f"line {row.line}: is a chat with pictures, and the base model takes none"
            raise RowUnfit("template_refused", why)
        return EncodedRow(line=row.line, input_ids=tuple(ids), labels=tuple(labels))

    def _encode_text(self, line: int, text: PlainText) -> EncodedRow:
        """Return prompt and completion as an engine reads a prompt, and the end token after them."""
        prompt, whole = (self.text_ids(read) for read in (text.prompt, text.prompt + text.completion))
        # An engine reads the prompt alone, so a token must not span the border.
        ids = whole if whole[: len(prompt)] == prompt else [*prompt, *self._ids(text.completion)]
        # A single token follows nothing, so nothing could be learnt of it.
        if ids[-1] not in self._end_ids or len(ids) == 1:
            ids.append(self._end_id())
        return EncodedRow(line=line, input_ids=tuple(ids), labels=(*[IGNORED] * len(prompt), *ids[len(prompt) :]))

    def text_ids(self, text: str) -> list[int]:
        """Return *text* as tokens as an engine reads a prompt that is no chat."""
        marked, plain = self._tokenizer("a")["input_ids"], self._ids("a")
        opening = marked[: marked.index(plain[0])]  # such as the token of a text's beginning
        return [*opening, *self._ids(text)]

    def _end_id(self) -> int:
        if not self._end_ids:
            why = "the base model has no end token, so a completion would have no end to learn"
            raise JobFailed("template_not_trainable", why, "model")
        own = self._tokenizer.eos_token_id
        return min(self._end_ids) if own is None else int(own)

    @property
    def end_ids(self) -> frozenset[int]:
        """Ids at which the engine stops."""
        return self._end_ids

    @property
    def template_digest(self) -> str:
        """sha256 of the chat template's text."""
        return sha256(str(self._tokenizer.chat_template).encode()).hexdigest()

    def open_answer(self, messages: Sequence[Mapping[str, Any]], line: int = 0) -> list[int]:
        """Return *messages* as tokens, ready for the assistant's answer; `RowUnfit` if the template refuses them.

        *line* is that of the prompt in its file.
        """
        chat = [{**message, "content": self._template_content(message["content"])} for message in messages]
        return self._ids(self._render(TemplateChat(line=line, messages=chat), opens_answer=True))

    def read_output(self, ids: Sequence[int]) -> str:
        """Return an answer's tokens as text, as an engine sends it: without the end token and other marks."""
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True)
        return text

    def spell(self, token: int) -> tuple[str, str | None]:
        """Return the token as text, and as the vocabulary spells it; None for a row that pads the vocabulary."""
        return self._tokenizer.decode([token]), self._tokenizer.convert_ids_to_tokens(token)

    def _mark(
        self, chat: TemplateChat, at: int, labels: list[int], found: tuple[Sequence[int], RenderedAnswer]
    ) -> None:
        """Label the tokens of turn *at*, its end token included: a model that does not learn this token never stops."""
        ids, answer = found
        start, end = shared(ids, self._ids(answer.opened)), shared(ids, self._ids(answer.closed))
        ends = [index for index in range(start, end) if ids[index] in self._end_ids]
        if not ends:
            raise without_end(chat, at)
        labels[start : ends[-1] + 1] = ids[start : ends[-1] + 1]

    def _check_tools(self, chat: TemplateChat, text: str) -> None:
        """Raise `JobFailed` if *text* is the same without the chat's tools or tool calls."""
        without = {
            "declared tools": replace(chat, tools=()) if chat.tools else None,
            "tool calls": _without_calls(chat),
        }
        for part, plain in without.items():
            if plain is not None and self._renders_as(plain, text):
                raise RowUnfit(
                    "template_not_trainable",
                    f"line {chat.line}: the base model's chat template leaves out {part}; train on chats without "
                    "tools, or on a base model whose template renders them",
                )

    def _renders_as(self, chat: TemplateChat, text: str) -> bool:
        try:
            return self._render(chat) == text
        except JobFailed:  # such as a tool's answer without a call
            return False

    def _render(self, chat: TemplateChat, *, opens_answer: bool = False) -> str:
        try:
            return self._template.render(chat.messages, chat.tools, opens_answer=opens_answer)
        except TemplateRefused as exc:
            why = f"line {chat.line}: the base model's chat template refuses it: {exc}"
            raise RowUnfit("template_refused", why) from exc

    def _ids(self, text: str) -> list[int]:
        return self._template.ids(text)


def read_rows(path: Path, encoder: ChatEncoder, fitting: FittingRows) -> list[EncodedRow]:
    """Return the chats of the file at *path* as tokens, as far as they fit; raises `TrainingFileInvalid`."""
    longest = fitting.longest_labelled
    with path.open("rb") as lines:
        kept = fitting.encode(read_lines(lines, CHATS_OR_TEXTS), lambda row: fitting.fit(encoder.encode(row, longest)))
    return [encoded for _, rows in kept for encoded in rows]


def count_ignored(path: Path, wanted: tuple[LineFormat[TrainingLine], ...]) -> Mapping[str, int]:
    """Return the fields that training leaves out of the file at *path*, with the number of messages that have each."""
    with path.open("rb") as lines:
        found = (name for row in read_lines(lines, wanted) for message in row.messages for name in message.ignored)
        return Counter(found)


def _without_calls(chat: TemplateChat) -> TemplateChat | None:
    """Return *chat* without its tool calls; None if there are none."""
    plain = [{name: value for name, value in message.items() if name != "tool_calls"} for message in chat.messages]
    return None if plain == [*chat.messages] else replace(chat, messages=plain)


def _end_ids(base_folder: Path, eos_token_id: int | None) -> frozenset[int]:
    """Return the ids at which the engine stops: the tokenizer's, and those of the folder's generation settings."""
    ends: Any = None
    if (base_folder / "generation_config.json").exists():
        ends = GenerationConfig.from_pretrained(base_folder, local_files_only=True).eos_token_id
    listed = ends if isinstance(ends, list) else [ends]
    return frozenset(token for token in [eos_token_id, *listed] if token is not None)
