"""Chats with pictures as tokens and pixels, by the base model's own processor.

A chat template writes a mark for each picture. The processor puts as many picture tokens in its place as the picture
takes, and makes the pixels of all pictures of a pass at once: rows keep the names of their pictures, not the pixels.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256
from io import BytesIO
from itertools import islice, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from conversations.chat_template import ChatTemplate
from registry.contracts.pictures.picture_bytes import open_picture
from registry.contracts.pictures.picture_part import PicturePart, parse_picture
from registry.contracts.pictures.picture_sources import PictureSources
from registry.contracts.pictures.vision_base import why_no_pictures
from registry.contracts.training_file import TrainingRow
from registry.contracts.training_formats import LineFormat, TrainingLine, read_lines
from registry.contracts.training_message import ChatMessage
from trainer.data.dataset import ChatEncoder
from trainer.data.encoded_row import EncodedRow
from trainer.data.processor import load_processor
from trainer.data.rendered_answer import TemplateChat
from trainer.errors import JobFailed, RowUnfit

if TYPE_CHECKING:
    from PIL.Image import Image

PICTURE_PROMPTS: Final = 3
"""Candidates with pictures for a fingerprint's probes."""
SMALL: Final = 64
"""Longest side of a probe's picture: a replica reads all probes at every load."""
_TOKENS: Final = frozenset({"input_ids", "attention_mask", "mm_token_type_ids", "text_replacement_offsets"})
"""Outputs of a processor that are not the pictures'."""


def chat_encoder(base_folder: Path, sources: PictureSources) -> ChatEncoder:
    """Return the encoder for the base model in *base_folder*: with pictures if the model takes any."""
    return ChatEncoder(base_folder) if why_no_pictures(base_folder) else PictureEncoder(base_folder, sources)


class PictureEncoder(ChatEncoder):
    """Encodes rows whose user messages may have pictures, for a base model that takes them."""

    def __init__(self, base_folder: Path, sources: PictureSources) -> None:
        """Raise `JobFailed` if the folder's processor cannot be loaded."""
        super().__init__(base_folder)
        self._processor = load_processor(base_folder)
        self._sources = sources
        self._takes_parts = self._renders_parts()
        self._template = ChatTemplate(self._tokenizer, self._template_content)
        self._placeholder = ""
        """The text that stands for a picture in a rendered chat, once a picture was seen."""
        self._expanded: Sequence[str] = ()
        """For each picture of the row that is being encoded, what the processor puts in place of its mark."""
        self._digests: dict[str, str] = {}

    def encode(self, row: TrainingRow, longest: int | None = None) -> list[EncodedRow]:
        """Return *row* as tokens, with its pictures; `RowUnfit` or `TrainingFileInvalid` names the line."""
        self._expanded = self._expand(row) if row.pictures else ()
        return super().encode(row, longest)

    def open_answer(self, messages: Sequence[Mapping[str, Any]], line: int = 0) -> list[int]:
        """Return *messages* as tokens, ready for the assistant's answer; `RowUnfit` if the template refuses them."""
        pictures = pictures_of(messages)
        chat = [{**message, "content": self._template_content(message["content"])} for message in messages]
        text = self._render(TemplateChat(line=line, messages=chat), opens_answer=True)
        self._expanded = self._expansions(text, self._open(pictures), "the prompt") if pictures else ()
        return self._ids(text)

    def picture_inputs(self, pictures: Sequence[PicturePart]) -> dict[str, torch.Tensor]:
        """Return the model's inputs for *pictures*, in the order in which their tokens come; empty without any."""
        if not pictures:
            return {}
        made = self._processor(
            text=[self._placeholder * len(pictures)], images=self._open(pictures), return_tensors="pt"
        )
        return {name: tensor for name, tensor in made.items() if name not in _TOKENS}

    @property
    def picture_ids(self) -> frozenset[int]:
        """Ids of the tokens that stand for pictures."""
        return frozenset(token for token in self._processor.image_token_ids if token is not None)

    def request_inputs(self, messages: Sequence[Mapping[str, Any]], input_ids: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the model's inputs for the pictures of *messages*, whose tokens begin *input_ids*."""
        inputs = self.picture_inputs(pictures_of(messages))
        return inputs | self._token_types(input_ids) if inputs else {}

    def picture_prompts(self, path: Path, wanted: tuple[LineFormat[TrainingLine], ...]) -> list[list[dict[str, Any]]]:
        """Return the first prompts that have pictures and nothing else that engines treat differently."""
        with path.open("rb") as lines:
            rows = (row.chats[0] for row in read_lines(lines, wanted))
            found = (self._prompt(row) for row in rows if row.pictures and not row.tools)
            return [*islice(filter(None, found), PICTURE_PROMPTS)]

    def _prompt(self, row: TrainingRow) -> list[dict[str, Any]]:
        before = [*takewhile(lambda message: not message.is_learnt, row.messages)]
        if not any(message.pictures for message in before) or before[-1].role != "user":
            return []
        plain = all(message.as_template_input().keys() == {"role", "content"} for message in before)
        return [self._request(message) for message in before] if plain else []

    def _request(self, message: ChatMessage) -> dict[str, Any]:
        """Return *message* for a server, with small copies of its pictures."""
        made = message.as_template_input()
        if not message.pictures:
            return made
        parts = [
            {"type": "text", "text": part} if isinstance(part, str) else _small_copy(self._open([part])[0])
            for part in message.parts
        ]
        return made | {"content": parts}

    def batch_inputs(self, rows: Sequence[EncodedRow], input_ids: torch.Tensor) -> Mapping[str, torch.Tensor]:
        """Return the model's inputs for the pictures of *rows*, whose padded tokens are *input_ids*."""
        inputs = self.picture_inputs([picture for row in rows for picture in row.pictures])
        return inputs | self._token_types(input_ids) if inputs else {}

    def _token_types(self, input_ids: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return which tokens are a picture's, for models that compute positions by them."""
        if "mm_token_type_ids" not in self._processor.model_input_names:
            return {}
        types = self._processor.create_mm_token_type_ids(input_ids.tolist())
        return {"mm_token_type_ids": torch.tensor(types)}

    def _renders_parts(self) -> bool:
        """Whether the template takes lists of parts, as engines find out before they render a chat."""
        probe = [{"role": "user", "content": [{"type": "text", "text": "\ue000"}]}]
        try:
            text = self._render(TemplateChat(line=0, messages=probe))
        except JobFailed:
            return False
        return "\ue000" in text and "'type'" not in text and '"type"' not in text

    def _content_of(self, message: ChatMessage) -> Any:
        return message.as_parts() if self._takes_parts and message.pictures else message.content

    def _template_content(self, content: Any) -> Any:
        if not self._takes_parts:
            return content
        text = [{"type": "text", "text": content}] if content else []
        parts = text if isinstance(content, str) else content
        return [part if part["type"] == "text" else {"type": "image"} for part in parts]

    def _expand(self, row: TrainingRow) -> list[str]:
        expanded = self._expansions(self._render(self._chat(row)), self._open(row.pictures), f"line {row.line}")
        for at, message in enumerate(row.messages):
            if self._placeholder in message.content:
                where = f"line {row.line}: messages[{at}].content"
                why = f"{where} has the text {self._placeholder!r}, which stands for a picture"
                raise RowUnfit("template_refused", why)
        return expanded

    def _expansions(self, text: str, pictures: Sequence[Image], where: str) -> list[str]:
        """Return what the processor puts in place of each picture's mark in *text*."""
        try:
            made = self._processor(text=[text], images=[*pictures], return_text_replacement_offsets=True)
            found = made["text_replacement_offsets"][0]
        # A processor checks by code of its own what it is given, and its library differs from model to model.
        except (ValueError, KeyError, IndexError, TypeError, StopIteration, RuntimeError) as exc:
            raise self._leaves_out(where, len(pictures)) from exc
        if len(found) != len(pictures):
            raise self._leaves_out(where, len(pictures))
        self._placeholder = str(found[0]["text"])
        return [str(one["replacement"]) for one in found]

    def _leaves_out(self, where: str, count: int) -> RowUnfit:
        why = f"{where}: the base model's chat template and processor do not render its {count} pictures one by one"
        return RowUnfit("template_refused", why)

    def _ids(self, text: str) -> list[int]:
        if not self._expanded:
            return super()._ids(text)
        first, *rest = text.split(self._placeholder)
        return super()._ids(first + "".join(self._expanded[at] + after for at, after in enumerate(rest)))

    def _encoded(self, row: TrainingRow, text: str, ids: Sequence[int], labels: Sequence[int]) -> EncodedRow:
        # A row that ends with an earlier answer has the pictures before that answer only.
        count = text.count(self._placeholder) if self._expanded else 0
        return EncodedRow(line=row.line, input_ids=tuple(ids), labels=tuple(labels), pictures=row.pictures[:count])

    def _open(self, pictures: Sequence[PicturePart]) -> list[Image]:
        return [open_picture(self._read(picture), picture.where) for picture in pictures]

    def _read(self, picture: PicturePart) -> bytes:
        """Return the bytes of *picture*, which must be those of the first reading."""
        data = self._sources.read(picture)
        digest = sha256(data).hexdigest()
        if self._digests.setdefault(picture.name if len(picture.name) < 4096 else digest, digest) != digest:
            why = f"{picture.where}: {picture.name[:80]!r} changed while the job was running"
            raise JobFailed("file_not_readable", why, "training_file")
        return data


def _small_copy(picture: Image) -> dict[str, Any]:
    small = picture.copy()
    small.thumbnail((SMALL, SMALL))
    written = BytesIO()
    small.save(written, "PNG")
    url = "data:image/png;base64," + b64encode(written.getvalue()).decode()
    return {"type": "image_url", "image_url": {"url": url}}


def pictures_of(messages: Sequence[Mapping[str, Any]]) -> list[PicturePart]:
    """Return the pictures of a request's messages, in their order."""
    lists = [message["content"] for message in messages if isinstance(message["content"], list)]
    return [parse_picture(part, "a probe") for parts in lists for part in parts if part["type"] != "text"]
