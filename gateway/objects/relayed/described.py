"""The base of the models of relayed bodies and answers."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Relayed(BaseModel):
    """A JSON object that passes through the gateway, which an engine may give further members."""

    model_config = ConfigDict(frozen=True, defer_build=True, extra="allow", use_attribute_docstrings=True)


class TokenUsage(Relayed):
    """How many tokens a request took."""

    prompt_tokens: int
    completion_tokens: int | None = None
    """Left out where the answer has no tokens, as that of embeddings."""
    total_tokens: int


class StreamEvent(Relayed):
    """The data of an event, whose name is its `type`; `error` ends a stream that failed."""

    type: str
