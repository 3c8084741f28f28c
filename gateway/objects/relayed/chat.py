"""`POST /v1/chat/completions`: OpenAI's chat, with the members that engines of Lorry take beside."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from gateway.objects.relayed.described import Relayed, TokenUsage


class ChatContentPart(Relayed):
    """A part of a message."""

    type: str
    """`text`; `image_url`, `input_audio` and others where the model takes them."""
    text: str | None = None
    image_url: dict[str, Any] | None = None


class ChatToolCallFunction(Relayed):
    """A function that the model wants to be called."""

    name: str
    arguments: str
    """JSON in a string."""


class ChatToolCall(Relayed):
    """A tool call of the model."""

    id: str
    type: Literal["function"] = "function"
    function: ChatToolCallFunction


class ChatMessage(Relayed):
    """A message of the conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[ChatContentPart] | None = None
    name: str | None = None
    tool_calls: list[ChatToolCall] | None = None
    tool_call_id: str | None = None
    """In a message of the role `tool`: the call that it answers."""


class ChatToolFunction(Relayed):
    """A function that the model may call."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    """JSON Schema of the arguments."""
    strict: bool | None = None
    """Refuse a schema that cannot be enforced whole."""


class ChatTool(Relayed):
    """A tool that the model may call."""

    type: Literal["function"] = "function"
    function: ChatToolFunction


class StreamingOptions(Relayed):
    """Options of a stream."""

    include_usage: bool | None = None
    """Send the usage as the last event, with no choices."""


class AnswerFormat(Relayed):
    """The form that the answer is to have."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: dict[str, Any] | None = None


class GenerationFields(Relayed):
    """Fields of both kinds of completion; engines may take further ones."""

    model: str
    """A base model, an adapter, a pinned revision (`support@2`) or an `ft:` name."""
    stream: bool | None = None
    """Answer with server-sent events."""
    stream_options: StreamingOptions | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    n: Annotated[int, Field(ge=1)] | None = None
    stop: str | list[str] | None = None
    """At most four strings that end the answer."""
    seed: int | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    """0 takes the likeliest token alone."""
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logit_bias: dict[str, float] | None = None
    """Token id -> what is added to its logit."""
    user: str | None = None
    """Names the person; keeps a conversation on its side of a rollout."""
    safety_identifier: str | None = None
    """Like `user`."""
    prompt_cache_key: str | None = None
    """Like `user`."""
    prompt_cache_retention: str | None = None
    service_tier: str | None = None
    store: bool | None = None
    metadata: dict[str, str] | None = None
    best_of: int | None = None
    response_format: AnswerFormat | None = None
    top_k: int | None = None
    """This and the members below are not OpenAI's; they are as in vLLM."""
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=2)] | None = None
    min_tokens: Annotated[int, Field(ge=0)] | None = None
    ignore_eos: bool | None = None
    """Generate up to `max_tokens`."""
    prompt_logprobs: Annotated[int, Field(ge=0)] | None = None
    """Alternatives beside the log probability of each token of the prompt; in whole answers only."""
    structured_outputs: dict[str, Any] | None = None
    """A form that the answer must have: one of `json`, `regex`, `choice`, `grammar`."""
    guided_json: dict[str, Any] | str | None = None
    """A JSON Schema that the answer must satisfy."""
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None


class ChatCompletionRequest(GenerationFields):
    """The body of a chat."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    """Not OpenAI's: further values for the chat template."""
    tools: list[ChatTool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    """`auto`, `none`, `required`, or an object that names the function to call."""
    parallel_tool_calls: bool | None = None
    """False: at most one call in an answer."""


class TokenLogprob(Relayed):
    """A token with its log probability."""

    token: str
    logprob: float
    bytes: list[int] | None = None


class ChosenTokenLogprob(TokenLogprob):
    """A token of the answer, with the likeliest in its place."""

    top_logprobs: list[TokenLogprob]


class ChatLogprobs(Relayed):
    """Log probabilities of the tokens of an answer."""

    content: list[ChosenTokenLogprob] | None = None


class ChatAnswer(Relayed):
    """The message that the model wrote."""

    role: Literal["assistant"] = "assistant"
    content: str | None = None
    tool_calls: list[ChatToolCall] | None = None


class ChatChoice(Relayed):
    """An answer of several that were asked for."""

    index: int
    message: ChatAnswer
    finish_reason: str | None
    """`stop`, `length`, `tool_calls`."""
    logprobs: ChatLogprobs | None = None


class ChatCompletion(Relayed):
    """The answer to a chat. `id` is what `/v1/feedback` rates."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    """The revision or base model that answered."""
    choices: list[ChatChoice]
    usage: TokenUsage | None = None


class ChatDelta(Relayed):
    """The part that an event adds to an answer."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    tool_calls: list[dict[str, Any]] | None = None


class ChatChunkChoice(Relayed):
    """The part that an event adds to one of the answers."""

    index: int
    delta: ChatDelta
    finish_reason: str | None = None
    logprobs: ChatLogprobs | None = None


class ChatCompletionChunk(Relayed):
    """The data of an event of a stream. The last event is `[DONE]`; one with `error` ends a stream that failed."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChatChunkChoice]
    usage: TokenUsage | None = None
