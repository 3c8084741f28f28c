"""`POST /v1/responses`, OpenAI's newer form of a chat."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from gateway.objects.relayed.described import Relayed


class ResponseRequest(Relayed):
    """The body of a response."""

    model: str
    input: str | list[dict[str, Any]]
    """Text, or the items of the conversation."""
    instructions: str | None = None
    stream: bool | None = None
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: float | None = None
    top_p: float | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    reasoning: dict[str, Any] | None = None
    text: dict[str, Any] | None = None
    previous_response_id: str | None = None
    """Known only to the replica that gave that response: send the whole conversation instead."""
    store: bool | None = None
    metadata: dict[str, str] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None


class InputOutputUsage(Relayed):
    """How many tokens a request took."""

    input_tokens: int
    output_tokens: int
    total_tokens: int | None = None


class ModelResponse(Relayed):
    """A response."""

    id: str
    object: Literal["response"] = "response"
    created_at: float
    model: str
    status: str
    output: list[dict[str, Any]]
    """Items: messages, tool calls, reasoning."""
    usage: InputOutputUsage | None = None
    error: dict[str, Any] | None = None


class StreamEvent(Relayed):
    """The data of an event, whose name is its `type`; `error` ends a stream that failed."""

    type: str
