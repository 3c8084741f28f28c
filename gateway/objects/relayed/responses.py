"""`POST /v1/responses`, OpenAI's newer form of a chat, and the responses that are stored."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from gateway.objects.lists import ApiObject
from gateway.objects.relayed.described import Relayed


class ResponseRequest(Relayed):
    """The body of a response."""

    model: str
    input: str | list[dict[str, Any]] | None = None
    """Text, or the items of the conversation: messages, function calls, their outputs, reasoning, item references."""
    instructions: str | None = None
    previous_response_id: str | None = None
    """The stored response that this one goes on from."""
    store: bool | None = None
    """False: the response is not stored. True: the request fails where it cannot be."""
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    include: list[str] | None = None
    """`message.output_text.logprobs` for the logprobs of the text."""
    tools: list[dict[str, Any]] | None = None
    """Functions, which the client calls."""
    tool_choice: str | dict[str, Any] | None = None
    """`auto`, `none`, `required`, a function, or `allowed_tools`."""
    parallel_tool_calls: bool | None = None
    max_tool_calls: int | None = None
    """Bounds the calls of built-in tools, of which there are none."""
    text: dict[str, Any] | None = None
    """`format`: `text`, `json_object` or `json_schema`."""
    reasoning: dict[str, Any] | None = None
    """`effort`, where the engine knows it."""
    metadata: Annotated[dict[str, str], Field(max_length=16)] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None


class ResponseTokenUsage(Relayed):
    """How many tokens a response took."""

    input_tokens: int
    input_tokens_details: dict[str, Any]
    """`cached_tokens`: tokens of the prompt that the engine had computed before."""
    output_tokens: int
    output_tokens_details: dict[str, Any]
    """`reasoning_tokens`, where the engine counts them."""
    total_tokens: int


class ModelResponse(Relayed):
    """A response."""

    id: str
    object: Literal["response"] = "response"
    created_at: float
    completed_at: float | None = None
    model: str
    status: Literal["completed", "incomplete", "failed", "in_progress"]
    output: list[dict[str, Any]]
    """Items: messages, function calls, reasoning."""
    usage: ResponseTokenUsage | None = None
    error: dict[str, Any] | None = None
    incomplete_details: dict[str, Any] | None = None
    """`reason`: `max_output_tokens` or `content_filter`."""
    previous_response_id: str | None = None
    store: bool | None = None
    """Whether the response was stored, so that others can go on from it."""


class ResponseItem(Relayed):
    """An item of the input of a response."""

    id: str
    type: str
    """`message`, `function_call`, `function_call_output` or `reasoning`."""


class ResponseItemPage(ApiObject):
    """A page of items."""

    object: Literal["list"] = "list"
    data: list[ResponseItem]
    has_more: bool
    first_id: str | None = None
    last_id: str | None = None
    """Value of `after` for the next page."""


class ResponseInputTokens(Relayed):
    """The size of a response's prompt."""

    object: Literal["response.input_tokens"] = "response.input_tokens"
    input_tokens: int


class DeletedResponse(ApiObject):
    """The answer to a deletion."""

    id: str
    object: Literal["response"] = "response"
    deleted: Literal[True] = True
