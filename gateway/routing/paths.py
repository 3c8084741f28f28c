"""The paths that are relayed to engines, and what the hot path needs of each: a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class PathKind:
    """A relayed path. The model is named by the field `model` everywhere."""

    path: str
    operation: str
    """`gen_ai.operation.name` of its spans: one of the well-known names where there is one."""
    prompt_fields: tuple[str, ...]
    """Fields of the body that hold the prompt, in the order in which the model sees them; affinity follows these."""
    is_multipart: bool = False
    """The body is `multipart/form-data`, and `model` one of its parts; else it is a JSON object."""
    has_chat_messages: bool = False
    """`messages` are in OpenAI's form, in which a member that is null is absent."""
    may_stream: bool = False
    """`stream: true` is answered by server-sent events."""
    asks_for_usage: bool = False
    """A stream reports its usage only where the body's `stream_options.include_usage` is true."""
    is_judged: bool = False
    """The answers are choices, which `answer_facts` reads: evidence for a rollout, and worth a shadow copy."""
    input_tokens: str = "prompt_tokens"
    """Name in the answer's `usage` of the tokens of the prompt."""
    output_tokens: str = "completion_tokens"
    """Name in the answer's `usage` of the tokens of the answer."""
    through: str = ""
    """The path that answers the request in this one's stead, as its dialect translates it; empty where engines do."""

    @property
    def takes_batches(self) -> bool:
        """Whether a batch may be for this path: its requests are JSON, one to a line."""
        return not self.is_multipart


_KINDS: Final = (
    PathKind(
        path="/v1/chat/completions",
        operation="chat",
        prompt_fields=("messages",),
        has_chat_messages=True,
        may_stream=True,
        asks_for_usage=True,
        is_judged=True,
    ),
    PathKind(
        path="/v1/completions",
        operation="text_completion",
        prompt_fields=("prompt",),
        may_stream=True,
        asks_for_usage=True,
        is_judged=True,
    ),
    PathKind(path="/v1/responses", operation="chat", prompt_fields=(), may_stream=True, through="/v1/chat/completions"),
    PathKind(path="/v1/responses/input_tokens", operation="tokenize", prompt_fields=(), through="/tokenize"),
    PathKind(path="/v1/messages", operation="chat", prompt_fields=(), may_stream=True, through="/v1/chat/completions"),
    PathKind(path="/v1/messages/count_tokens", operation="tokenize", prompt_fields=(), through="/tokenize"),
    PathKind(path="/v1/embeddings", operation="embeddings", prompt_fields=("input",)),
    PathKind(path="/v1/rerank", operation="rerank", prompt_fields=("query",)),
    PathKind(path="/v2/rerank", operation="rerank", prompt_fields=("query",)),  # Cohere's second form of it
    PathKind(path="/rerank", operation="rerank", prompt_fields=("query",)),  # without a prefix, as vLLM and TEI have it
    PathKind(path="/tokenize", operation="tokenize", prompt_fields=("prompt", "messages"), has_chat_messages=True),
    PathKind(
        path="/v1/audio/transcriptions",
        operation="transcription",
        prompt_fields=(),
        is_multipart=True,
        may_stream=True,
        input_tokens="input_tokens",
        output_tokens="output_tokens",
    ),
)

HOT_PATHS: Final[Mapping[bytes, PathKind]] = MappingProxyType({kind.path.encode(): kind for kind in _KINDS})
"""Path of a request, as it stands in the request line -> its kind."""
