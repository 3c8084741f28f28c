"""The body of `POST /v1/messages` and of its `count_tokens`, as the body of a chat and of a tokenization."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from gateway.dialects.messages.conversation import Origin, conversation_of
from gateway.dialects.messages.members import Members, fault, shown
from gateway.dialects.messages.tools import chat_tools
from gateway.errors import ThreadsNotOffered

Json = dict[str, Any]
_COUNTED: Final = ("model", "messages", "system", "tools", "tool_choice", "thinking", "output_config", "output_format")
_TAKEN: Final = (
    *("max_tokens", "temperature", "top_p", "top_k", "stop_sequences", "stream", "metadata", "service_tier", "speed"),
    *("cache_control", "context_management", "diagnostics"),
)
_REFUSED: Final[Mapping[str, str]] = {
    "container": "is not supported: there are no containers here",
    "mcp_servers": "is not supported: connect to MCP servers in the client, and send their tools in tools",
    "inference_geo": "is not supported: requests are answered where Lorry runs",
    "fallbacks": "is not supported: name one model",
    "compaction": "is not supported: shorten the conversation in the client",
}
"""Member that asks for what is not here -> why it is refused, unless it asks for nothing."""
_EFFORTS: Final = {"low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}
"""Anthropic's efforts -> those that every engine knows."""
_THINKING: Final = ("disabled", "enabled", "adaptive", "between_tools")
_DISPLAYS: Final = ("summarized", "omitted")
_HARMLESS_EDIT: Final = "clear_thinking_20251015"
"""Thoughts of earlier turns never reach the model, so that this edit is done already."""


class Thinking(NamedTuple):
    """The fate of the thoughts that a model writes before its answer."""

    is_wanted: bool | None
    """None: as the model does by itself."""
    is_shown: bool = True


class AskedMessage(NamedTuple):
    """A request, translated, with what its answer is translated by."""

    chat: Json
    origins: list[Origin]
    """Where each message of the chat comes from."""
    stops: tuple[str, ...]
    thinking: Thinking
    is_streamed: bool


def asked_message(request: Mapping[str, Any]) -> AskedMessage:
    """Return the body of `POST /v1/messages` as a chat; `InvalidRequest` names the member at fault."""
    body = Members(request, "")
    _refuse_foreign(body, _COUNTED + _TAKEN)
    conversation = conversation_of(body)
    chat: Json = {"model": body.required_text("model"), "messages": conversation.messages}
    chat["max_tokens"] = _most_tokens(body)
    chat |= _sampling(body)
    stops = _stops(body)
    if stops:
        chat["stop"] = list(stops)
    chat |= chat_tools(body)
    thinking = _thinking(body)
    if arguments := _template_arguments(thinking):
        chat["chat_template_kwargs"] = arguments
    chat |= _output(body)
    if (user := _user(body)) is not None:
        chat["user"] = user
    is_streamed = body.flag("stream") or False
    if is_streamed:
        # With the usage in every chunk the first event already has the tokens of the prompt.
        chat |= {"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}}
    return AskedMessage(chat, conversation.origins, stops, thinking, is_streamed)


class AskedCount(NamedTuple):
    """A request for a count, translated."""

    tokenization: Json
    origins: list[Origin]


def asked_count(request: Mapping[str, Any]) -> AskedCount:
    """Return the body of `POST /v1/messages/count_tokens` as a tokenization; `InvalidRequest`.

    Members that a message takes and that leave the prompt as it is are taken too, as clients send the same body.
    """
    body = Members(request, "")
    _refuse_foreign(body, _COUNTED + _TAKEN)
    conversation = conversation_of(body)
    counted: Json = {"model": body.required_text("model"), "messages": conversation.messages}
    if tools := chat_tools(body).get("tools"):
        counted["tools"] = tools
    arguments = _template_arguments(_thinking(body))
    if effort := _output(body).get("reasoning_effort"):
        arguments["reasoning_effort"] = effort
    if arguments:
        counted["chat_template_kwargs"] = arguments
    return AskedCount(counted, conversation.origins)


def _refuse_foreign(body: Members, taken: tuple[str, ...]) -> None:
    for name, why in _REFUSED.items():
        body.refuse(name, why)
    if "thread" in body:
        raise ThreadsNotOffered("thread is not supported: send the whole conversation", param="thread")
    body.refuse("speed", 'must be "standard"', unless=("standard",))
    body.word("service_tier", ("auto", "standard_only"))
    _check_edits(body.members("context_management"))
    body.only(*taken, *(name for name in _REFUSED if name in body))


def _check_edits(management: Members | None) -> None:
    """Refuse edits of the context that would have to be made."""
    for edit in management.each("edits") if management is not None else []:
        kind = edit.required_text("type")
        if kind != _HARMLESS_EDIT:
            raise fault(edit.path("type"), f'must be "{_HARMLESS_EDIT}", not {shown(kind)}: shorten it in the client')


def _most_tokens(body: Members) -> int:
    most = body.whole_number("max_tokens", 1)
    if most is None:
        raise fault("max_tokens", "is required: the most tokens that the answer may have")
    return most


def _sampling(body: Members) -> Json:
    found: Json = {"temperature": body.number("temperature", 0, 2), "top_p": body.number("top_p", 0, 1)}
    found["top_k"] = body.whole_number("top_k", 0) or None  # 0 restricts nothing
    return {name: value for name, value in found.items() if value is not None}


def _stops(body: Members) -> tuple[str, ...]:
    stops = body.entries("stop_sequences") or []
    for place, stop in enumerate(stops):
        if not isinstance(stop, str) or not stop:
            raise fault(f"stop_sequences[{place}]", f"must be a string that is not empty, not {shown(stop)}")
    return tuple(stops)


def _user(body: Members) -> str | None:
    metadata = body.members("metadata")
    return None if metadata is None else metadata.text("user_id")


def _thinking(body: Members) -> Thinking:
    asked = body.members("thinking")
    if asked is None:
        return Thinking(None)
    asked.only("type", "budget_tokens", "display")
    kind = asked.word("type", _THINKING)
    if kind is None:
        raise fault(asked.path("type"), "is required")
    budget = asked.whole_number("budget_tokens", 1)
    if kind == "enabled" and budget is None:
        raise fault(asked.path("budget_tokens"), "is required beside enabled")
    is_shown = asked.word("display", _DISPLAYS) != "omitted"
    return Thinking(kind != "disabled", is_shown=is_shown)


def _template_arguments(thinking: Thinking) -> Json:
    """Return the names by which chat templates know whether to think; a template that does not passes them over."""
    if thinking.is_wanted is None:
        return {}
    return {"enable_thinking": thinking.is_wanted, "thinking": thinking.is_wanted}


def _output(body: Members) -> Json:
    """Return the form that the answer must have, and the effort."""
    found: Json = {}
    config = body.members("output_config")
    wanted = body.members("output_format")
    if config is not None:
        config.only("effort", "format")
        if effort := config.word("effort", tuple(_EFFORTS)):
            found["reasoning_effort"] = _EFFORTS[effort]
        if "format" in config and wanted is not None:
            raise fault("output_format", "must not stand beside output_config.format, which has the same meaning")
        wanted = config.members("format") or wanted
    if wanted is not None:
        wanted.only("type", "schema", "name")
        wanted.word("type", ("json_schema",))
        schema = {"name": wanted.text("name") or "answer", "schema": wanted.required_mapping("schema"), "strict": True}
        found["response_format"] = {"type": "json_schema", "json_schema": schema}
    return found
