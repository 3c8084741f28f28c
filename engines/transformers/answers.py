"""Answers in OpenAI's format: whole bodies and chunks of a stream, for both kinds of completion."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from engines.transformers.sampling import ChosenToken
from engines.transformers.sequence import Delta
from engines.transformers.text import TokenTexts

Json = dict[str, Any]
_UTF8: Final = codecs.getincrementaldecoder("utf-8")


@dataclass(slots=True)
class Whole:
    """An answer, put together from its deltas."""

    parts: list[str] = field(default_factory=list)
    choices: list[ChosenToken] = field(default_factory=list)
    finish: str | None = None

    def add(self, delta: Delta) -> None:
        """Append what is new."""
        self.parts.append(delta.text)
        self.choices += delta.choices
        self.finish = delta.finish


class AnswerFormat(Protocol):
    """The format of the answers of one kind of completion."""

    @property
    def object(self) -> str:
        """Return the value of `object` in a whole answer."""
        ...

    @property
    def chunk_object(self) -> str:
        """Return the value of `object` in a chunk."""
        ...

    @property
    def id_prefix(self) -> str:
        """Return the beginning of every id."""
        ...

    def whole(self, index: int, answer: Whole) -> Json:
        """Return an entry of `choices` in a whole answer."""
        ...

    def pieces(self, index: int, delta: Delta, *, is_first: bool) -> list[Json]:
        """Return entries of `choices`, each for a chunk of its own."""
        ...


@dataclass(slots=True)
class ChatFormat:
    """`/v1/chat/completions`."""

    tokens: TokenTexts
    with_logprobs: bool
    object: str = "chat.completion"
    chunk_object: str = "chat.completion.chunk"
    id_prefix: str = "chatcmpl-"

    def whole(self, index: int, answer: Whole) -> Json:
        """Return an entry with the message."""
        message = {"role": "assistant", "content": "".join(answer.parts), "refusal": None}
        logprobs = self._logprobs(answer.choices)
        return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": answer.finish}

    def pieces(self, index: int, delta: Delta, *, is_first: bool) -> list[Json]:
        """Return the role before the first text, and nothing but the reason at the end."""
        found = []
        if is_first:
            found.append(chat_piece(index, {"role": "assistant", "content": ""}))
        if delta.text or delta.choices:
            found.append(chat_piece(index, {"content": delta.text}, logprobs=self._logprobs(delta.choices)))
        if delta.finish is not None:
            found.append(chat_piece(index, {}, finish=delta.finish))
        return found

    def _logprobs(self, choices: Sequence[ChosenToken]) -> Json | None:
        if not self.with_logprobs:
            return None
        content = []
        for choice in choices:
            top = [self._entry(token, logprob) for token, logprob in choice.alternatives]
            content.append({**self._entry(choice.token, choice.logprob), "top_logprobs": top})
        return {"content": content, "refusal": None}

    def _entry(self, token: int, logprob: float | None) -> Json:
        return {"token": self.tokens.text(token), "logprob": logprob, "bytes": list(self.tokens.spell(token))}


@dataclass(slots=True)
class TextFormat:
    """`/v1/completions`."""

    tokens: TokenTexts
    with_logprobs: bool
    object: str = "text_completion"
    chunk_object: str = "text_completion"
    id_prefix: str = "cmpl-"
    offsets: dict[int, int] = field(default_factory=dict)
    """Answer -> characters of the tokens reported so far."""
    decoders: dict[int, codecs.IncrementalDecoder] = field(default_factory=dict)
    """Answer -> the bytes of a character that is not whole yet."""

    def whole(self, index: int, answer: Whole) -> Json:
        """Return an entry with the text."""
        return self._choice(index, "".join(answer.parts), answer.choices, answer.finish)

    def pieces(self, index: int, delta: Delta, *, is_first: bool) -> list[Json]:
        """Return one entry, which in the last chunk has the reason."""
        return [self._choice(index, delta.text, delta.choices, delta.finish)]

    def _choice(self, index: int, text: str, choices: Sequence[ChosenToken], finish: str | None) -> Json:
        logprobs = self._logprobs(index, choices) if self.with_logprobs else None
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish}

    def _logprobs(self, index: int, choices: Sequence[ChosenToken]) -> Json:
        decoder = self.decoders.setdefault(index, _UTF8(errors="replace"))
        offset, offsets = self.offsets.get(index, 0), []
        for choice in choices:
            offsets.append(offset)
            offset += len(decoder.decode(self.tokens.spell(choice.token)))
        self.offsets[index] = offset
        tops = [{self._name(token): logprob for token, logprob in choice.alternatives} for choice in choices]
        return {
            "tokens": [self._name(choice.token) for choice in choices],
            "token_logprobs": [choice.logprob for choice in choices],
            "top_logprobs": tops,
            "text_offset": offsets,
        }

    def _name(self, token: int) -> str:
        """Return the token's text, or `bytes:` and its bytes as OpenAI has it: `top_logprobs` must not merge two."""
        spelled = self.tokens.spell(token)
        try:
            return spelled.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in spelled)


def chat_piece(index: int, delta: Json, *, logprobs: Json | None = None, finish: str | None = None) -> Json:
    """Return an entry of `choices` in a chunk of a chat."""
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
