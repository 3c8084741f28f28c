"""`POST /v1/messages`, Anthropic's form of a chat, and the count of its tokens."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from gateway.objects.relayed.described import Relayed


class MessageTurn(Relayed):
    """A message of the conversation."""

    role: Literal["user", "assistant", "system"]
    content: str | list[dict[str, Any]]
    """Text, or blocks: a user's are `text`, `image`, `tool_result`, an assistant's `text`, `tool_use`, `thinking`."""


class CountRequest(Relayed):
    """The prompt of a message, in Anthropic's form."""

    model: str
    """A base model, an adapter, a pinned revision (`support@2`) or an `ft:` name."""
    messages: Annotated[list[MessageTurn], Field(min_length=1)]
    system: str | list[dict[str, Any]] | None = None
    tools: list[dict[str, Any]] | None = None
    """Tools of the client, with `name`, `description` and `input_schema`."""
    tool_choice: dict[str, Any] | None = None
    thinking: dict[str, Any] | None = None
    """`disabled` or not reaches the chat template; a budget is a wish that no engine holds to."""
    output_config: dict[str, Any] | None = None
    """`format` with a JSON Schema that the answer must satisfy, and `effort`."""
    output_format: dict[str, Any] | None = None
    """The former name of `output_config.format`."""


class MessageRequest(CountRequest):
    """The body of a message in Anthropic's form."""

    max_tokens: Annotated[int, Field(ge=1)]
    stream: bool | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_k: Annotated[int, Field(ge=0)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    stop_sequences: list[str] | None = None
    metadata: dict[str, Any] | None = None
    """`user_id` keeps a conversation on its side of a rollout."""
    service_tier: Literal["auto", "standard_only"] | None = None
    speed: Literal["standard"] | None = None
    cache_control: dict[str, Any] | None = None
    """Taken and passed over: engines keep prompts by themselves."""
    context_management: dict[str, Any] | None = None
    """Only with the edit `clear_thinking_20251015`."""
    diagnostics: dict[str, Any] | None = None


class MessageUsage(Relayed):
    """How many tokens a message took; those of the prompt are the sum of the three kinds of input."""

    input_tokens: int
    output_tokens: int
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    """Null where the engine does not report it."""


class ModelMessage(Relayed):
    """The answer. `id` is what `/v1/feedback` rates."""

    id: str
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"
    model: str
    """The revision or base model that answered."""
    content: list[dict[str, Any]]
    """Blocks: `text`, `tool_use`, `thinking`."""
    stop_reason: Literal["end_turn", "max_tokens", "stop_sequence", "tool_use", "refusal"] | None = None
    stop_sequence: str | None = None
    usage: MessageUsage


class TokenCount(Relayed):
    """How many tokens a prompt has."""

    input_tokens: int


class AnthropicErrorFacts(Relayed):
    """The error."""

    type: str
    message: str
    details: dict[str, Any] | None = None
    """`error_code` is Lorry's code of the error, `field` the field at fault."""


class AnthropicError(Relayed):
    """An error in Anthropic's form."""

    type: Literal["error"] = "error"
    error: AnthropicErrorFacts
    request_id: str | None = None
