"""`POST /v1/completions` and `POST /tokenize`: text as it is, without a chat template."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from gateway.objects.relayed.chat import ChatMessage, ChatTool, GenerationFields
from gateway.objects.relayed.described import Relayed, TokenUsage


class CompletionRequest(GenerationFields):
    """The body of a text completion."""

    prompt: str | list[str] | list[int] | list[list[int]]
    """Text or token ids, one prompt or several."""
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    """0 beside `echo`: the prompt alone."""
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    echo: bool | None = None
    """The answer begins with the prompt, with its tokens' log probabilities where `logprobs` asks for them."""
    suffix: str | None = None


class CompletionLogprobs(Relayed):
    """Log probabilities of the tokens of a text."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None = None
    text_offset: list[int]


class CompletionChoice(Relayed):
    """A text of several that were asked for; in a stream what an event adds to it."""

    index: int
    text: str
    finish_reason: str | None = None
    logprobs: CompletionLogprobs | None = None


class Completion(Relayed):
    """The answer to a text completion; the data of each event of a stream has the same form."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    """The revision or base model that answered."""
    choices: list[CompletionChoice]
    usage: TokenUsage | None = None


class TokenizationRequest(Relayed):
    """The body of a tokenization: a prompt, or the messages of a chat."""

    model: str
    prompt: str | None = None
    add_special_tokens: bool | None = None
    messages: list[ChatMessage] | None = None
    tools: list[ChatTool] | None = None
    """Counted with the messages."""
    chat_template_kwargs: dict[str, Any] | None = None
    """As in a chat."""
    add_generation_prompt: bool | None = None


class Tokenization(Relayed):
    """The tokens of a text."""

    count: int
    max_model_len: int
    tokens: list[int]
