"""Answers in OpenAI's format: whole bodies and chunks of a stream, for both kinds of completion."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from engines.transformers.calls.call_reader import CallPiece
from engines.transformers.sampling import ChosenToken, PromptScores
from engines.transformers.sequence import Delta
from engines.transformers.text import TokenTexts

Json = dict[str, Any]
_UTF8: Final = codecs.getincrementaldecoder("utf-8")


@dataclass(slots=True)
class Whole:
    """An answer, put together from its deltas."""

    parts: list[str] = field(default_factory=list)
    calls: list[Json] = field(default_factory=list)
    """Calls of functions, as a message has them."""
    choices: list[ChosenToken] = field(default_factory=list)
    finish: str | None = None
    met_stop: str | None = None

    def add(self, delta: Delta) -> None:
        """Append what is new."""
        self.parts.append(delta.text)
        for piece in delta.calls:
            if piece.index == len(self.calls):
                self.calls.append(call_of(piece))
            else:
                self.calls[piece.index]["function"]["arguments"] += piece.arguments
        self.choices += delta.choices
        self.finish = delta.finish
        self.met_stop = delta.met_stop


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

    def with_prompts(self, body: Json, scores: Sequence[PromptScores], alternatives: int) -> Json:
        """Return the whole answer with the `prompt_logprobs` of its prompts where vLLM has them."""
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
        text = "".join(answer.parts)
        message: Json = {"role": "assistant", "content": text, "refusal": None}
        if answer.calls:
            message |= {"content": text or None, "tool_calls": answer.calls}
        logprobs = self._logprobs(answer.choices)
        choice = {"index": index, "message": message, "logprobs": logprobs, "finish_reason": answer.finish}
        return choice | stop_reason(answer.met_stop)

    def pieces(self, index: int, delta: Delta, *, is_first: bool) -> list[Json]:
        """Return the role before the first text, and nothing but the reason at the end."""
        found = []
        if is_first:
            begins_with_call = bool(delta.calls) and not delta.text
            found.append(chat_piece(index, {"role": "assistant", "content": None if begins_with_call else ""}))
        news: list[Json] = [{"content": delta.text}] if delta.text else []
        news += [{"tool_calls": [called_piece(piece)]} for piece in delta.calls]
        if delta.choices and not news:
            news.append({"content": ""})
        for at, what in enumerate(news):
            # The tokens of a delta are reported once.
            found.append(chat_piece(index, what, logprobs=None if at else self._logprobs(delta.choices)))
        if delta.finish is not None:
            found.append(chat_piece(index, {}, finish=delta.finish) | stop_reason(delta.met_stop))
        return found

    def with_prompts(self, body: Json, scores: Sequence[PromptScores], alternatives: int) -> Json:
        """Return the body with the member of its one prompt."""
        return {**body, "prompt_logprobs": prompt_logprobs(scores[0], alternatives, self.tokens)}

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Echo:
    """A prompt as it stands before its answers."""

    text: str
    spelled: Sequence[bytes]
    """The bytes of each of its tokens in the text: none for a token that the tokenizer put in front."""
    scores: PromptScores | None
    """The tokens' logprobs, where they are wanted."""


@dataclass(slots=True)
class TextFormat:
    """`/v1/completions`."""

    tokens: TokenTexts
    alternatives: int | None
    """Beside each token's logprob; None: no logprobs."""
    n: int = 1
    """Answers to each prompt."""
    echoes: Sequence[Echo] = ()
    """The prompts, where the answers begin with them."""
    object: str = "text_completion"
    chunk_object: str = "text_completion"
    id_prefix: str = "cmpl-"
    offsets: dict[int, int] = field(default_factory=dict)
    """Answer -> characters of the tokens reported so far."""
    decoders: dict[int, codecs.IncrementalDecoder] = field(default_factory=dict)
    """Answer -> the bytes of a character that is not whole yet."""

    def whole(self, index: int, answer: Whole) -> Json:
        """Return an entry with the text."""
        choice = self._choice(index, "".join(answer.parts), answer.choices, answer.finish, is_first=True)
        return choice | stop_reason(answer.met_stop)

    def pieces(self, index: int, delta: Delta, *, is_first: bool) -> list[Json]:
        """Return one entry, which in the last chunk has the reason."""
        choice = self._choice(index, delta.text, delta.choices, delta.finish, is_first=is_first)
        return [choice | stop_reason(delta.met_stop)]

    def with_prompts(self, body: Json, scores: Sequence[PromptScores], alternatives: int) -> Json:
        """Return the body with the member of its prompt in each entry of `choices`."""
        found = [prompt_logprobs(each, alternatives, self.tokens) for each in scores]
        choices = [{**each, "prompt_logprobs": found[each["index"] // self.n]} for each in body["choices"]]
        return {**body, "choices": choices}

    def _choice(
        self, index: int, text: str, choices: Sequence[ChosenToken], finish: str | None, *, is_first: bool
    ) -> Json:
        spelled = [self.tokens.spell(choice.token) for choice in choices]
        if is_first and self.echoes:
            echo = self.echoes[index // self.n]
            text = echo.text + text
            if echo.scores is not None:
                choices, spelled = [*echo.scores.entries, *choices], [*echo.spelled, *spelled]
        logprobs = self._logprobs(index, choices, spelled) if self.alternatives is not None else None
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish}

    def _logprobs(self, index: int, choices: Sequence[ChosenToken], spelled: Sequence[bytes]) -> Json:
        decoder = self.decoders.setdefault(index, _UTF8(errors="replace"))
        offset, offsets = self.offsets.get(index, 0), []
        for piece in spelled:
            offsets.append(offset)
            offset += len(decoder.decode(piece))
        self.offsets[index] = offset
        tops = [
            None
            if choice.logprob is None
            else {self._name(token): logprob for token, logprob in choice.alternatives[: self.alternatives]}
            for choice in choices
        ]
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


def prompt_logprobs(scores: PromptScores, alternatives: int, tokens: TokenTexts) -> list[Json | None]:
    """Return the logprobs of a prompt in vLLM's form: by token id, the prompt's own token and the likeliest ones."""
    found: list[Json | None] = []
    for choice, rank in zip(scores.entries, scores.ranks, strict=True):
        if choice.logprob is None:
            found.append(None)
            continue
        ranked = [(choice.token, choice.logprob, rank)]
        ranked += [(*each, place) for place, each in enumerate(choice.alternatives[:alternatives], 1)]
        found.append(
            {
                str(token): {"logprob": logprob, "rank": place, "decoded_token": tokens.text(token)}
                for token, logprob, place in reversed(ranked)
            }
        )
    return found


def call_of(piece: CallPiece) -> Json:
    """Return a call as a message has it, with the arguments so far."""
    function = {"name": piece.name, "arguments": piece.arguments}
    return {"id": piece.id, "type": "function", "function": function}


def called_piece(piece: CallPiece) -> Json:
    """Return an entry of `tool_calls` in a chunk: id and name come first, then pieces of the arguments."""
    if piece.name is None:
        return {"index": piece.index, "function": {"arguments": piece.arguments}}
    return {"index": piece.index, **call_of(piece)}


def stop_reason(met: str | None) -> Json:
    """Return the member that names the stop string which ended an answer, as vLLM has it; nothing without one."""
    return {} if met is None else {"stop_reason": met}


def chat_piece(index: int, delta: Json, *, logprobs: Json | None = None, finish: str | None = None) -> Json:
    """Return an entry of `choices` in a chunk of a chat."""
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
