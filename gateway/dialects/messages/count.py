"""A tokenization as the answer to `POST /v1/messages/count_tokens`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from gateway.dialects.messages.open_blocks import event
from gateway.dialects.messages.refusals import refusal_of


class CountTranslator:
    """The count of a prompt's tokens, on its way back."""

    def __init__(self, token: str) -> None:
        self.answer_id = f"msg_{token}"
        self._body = b""

    def whole(self, answer: Mapping[str, Any]) -> None:
        """Take the tokenization in."""
        self._body = orjson.dumps({"input_tokens": int(answer["count"])})

    def chunk(self, chunk: Mapping[str, Any]) -> bytes:
        """Return nothing: a count is not streamed."""
        return b""

    def to_keep(self, at: float) -> None:
        """Return nothing: a count is not stored."""

    def end(self, *, is_kept: bool) -> bytes:
        """Return the body."""
        return self._body

    def broke(self, error: Mapping[str, Any]) -> bytes:
        """Return the event of the error, which nobody reads: a count is not streamed."""
        return event(refusal_of(500, error))
