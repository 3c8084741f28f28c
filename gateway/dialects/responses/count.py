"""`POST /v1/responses/input_tokens` as a tokenization, and back. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson


def tokenization_of(chat: Mapping[str, Any]) -> dict[str, Any]:
    """Return the request that tokenizes the prompt of *chat*."""
    counted = {name: chat[name] for name in ("model", "messages", "tools") if name in chat}
    arguments = dict(chat.get("chat_template_kwargs") or {})
    if "reasoning_effort" in chat:
        arguments["reasoning_effort"] = chat["reasoning_effort"]
    return counted | ({"chat_template_kwargs": arguments} if arguments else {})


class CountTranslator:
    """The count of a prompt's tokens, on its way back."""

    answer_id = ""

    def __init__(self) -> None:
        self._body = b""

    def chunk(self, chunk: Mapping[str, Any]) -> bytes:
        """Return nothing: a count is not streamed."""
        return b""

    def whole(self, answer: Mapping[str, Any]) -> None:
        """Take the tokenization in."""
        self._body = orjson.dumps({"object": "response.input_tokens", "input_tokens": int(answer["count"])})

    def to_keep(self, at: float) -> None:
        """Return nothing: a count is not stored."""

    def end(self, *, is_kept: bool) -> bytes:
        """Return the body."""
        return self._body

    def broke(self, error: Mapping[str, Any]) -> bytes:
        """Return nothing: a count is not streamed."""
        return b""
