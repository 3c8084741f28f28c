"""A chat's answer as a message: whole, or as Anthropic's events while it comes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson

from gateway.dialects.messages.blocks import blocks_of, thoughts_in
from gateway.dialects.messages.endings import Ending, ending_of, usage_of
from gateway.dialects.messages.open_blocks import Event, OpenBlocks, event
from gateway.dialects.messages.refusals import refusal_of
from gateway.dialects.messages.request import AskedMessage

Json = dict[str, Any]
_EARLY: Final = "the replica ended its answer before it was whole"


class MessageTranslator:
    """The translator of an answer on its way back."""

    def __init__(self, asked: AskedMessage, token: str) -> None:
        """*token* is unlike that of any other answer."""
        self.answer_id = f"msg_{token}"
        self._asked = asked
        self._token = token
        self._blocks = OpenBlocks(asked.thinking, token)
        self._usage: Mapping[str, Any] | None = None
        self._ending: Ending | None = None
        self._has_refusal = False
        self._is_begun = self._is_over = False
        self._body = b""

    def whole(self, answer: Mapping[str, Any]) -> None:
        """Take a whole answer in."""
        choice = answer["choices"][0]
        said = choice["message"]
        has_calls, has_refusal = bool(said.get("tool_calls")), bool(said.get("refusal"))
        ending = ending_of(choice, self._asked.stops, has_calls=has_calls, has_refusal=has_refusal)
        content = blocks_of(said, self._asked.thinking, self._token)
        self._body = orjson.dumps(self._message(answer["model"], content, ending, usage_of(answer.get("usage"))))

    def chunk(self, chunk: Mapping[str, Any]) -> bytes:
        """Return the events that a chunk of a stream becomes; an error of the engine ends the stream."""
        if self._is_over:
            return b""
        if "error" in chunk:
            return self.broke(chunk)
        return b"".join(self._events(chunk))

    def to_keep(self, at: float) -> None:
        """Return nothing: messages are not stored."""

    def end(self, *, is_kept: bool) -> bytes:
        """Return the last events of a stream, or the body of a whole answer."""
        if not self._asked.is_streamed:
            return self._body
        if self._is_over:
            return b""
        if self._ending is None:
            return self.broke({"error": {"message": _EARLY, "code": "engine_unavailable"}})
        self._is_over = True
        delta = {"stop_reason": self._ending.stop_reason, "stop_sequence": self._ending.stop_sequence}
        last = event({"type": "message_delta", "delta": delta, "usage": usage_of(self._usage)})
        return b"".join(self._blocks.close()) + last + event({"type": "message_stop"})

    def broke(self, error: Mapping[str, Any]) -> bytes:
        """Return the event that ends a stream which failed."""
        self._is_over = True
        return event(dict(refusal_of(500, error)))

    def _events(self, chunk: Mapping[str, Any]) -> Iterator[Event]:
        self._usage = chunk.get("usage") or self._usage
        choices = chunk.get("choices") or ()
        if not self._is_begun:
            # SGLang sends the prompt's tokens with the first piece of the answer, after a chunk with the role alone.
            if self._usage is None and not any(map(_has_news, choices)):
                return
            self._is_begun = True
            usage = usage_of(self._usage) | {"output_tokens": 0}
            yield event({"type": "message_start", "message": self._message(chunk["model"], [], None, usage)})
            yield event({"type": "ping"})
        for choice in choices:
            yield from self._add(choice)

    def _add(self, choice: Mapping[str, Any]) -> Iterator[Event]:
        delta = choice.get("delta") or {}
        if thoughts := thoughts_in(delta):
            yield from self._blocks.think(thoughts)
        self._has_refusal = self._has_refusal or bool(delta.get("refusal"))
        if text := delta.get("content") or delta.get("refusal"):
            yield from self._blocks.say(text)
        for place, call in enumerate(delta.get("tool_calls") or ()):
            yield from self._blocks.call(call, place)
        if choice.get("finish_reason"):
            calls = self._blocks.has_calls
            self._ending = ending_of(choice, self._asked.stops, has_calls=calls, has_refusal=self._has_refusal)

    def _message(self, model: str, content: list[Json], ending: Ending | None, usage: Json) -> Json:
        return {
            "id": self.answer_id,
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": content,
            "stop_reason": None if ending is None else ending.stop_reason,
            "stop_sequence": None if ending is None else ending.stop_sequence,
            "usage": usage,
        }


def _has_news(choice: Mapping[str, Any]) -> bool:
    """Whether a piece has more than the role of its answer."""
    delta = choice.get("delta") or {}
    return bool(choice.get("finish_reason") or any(value for name, value in delta.items() if name != "role"))
