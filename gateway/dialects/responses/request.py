"""A request in Responses' form, read whole: what the chat is asked, and what the response repeats of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.dialects.dialect import Arrival
from gateway.dialects.responses.fields import as_object, member, needed, one_of, shown, unsupported
from gateway.dialects.responses.items import Item, ItemReader, messages_of, response_id_of
from gateway.dialects.responses.tools import tool_use_of
from gateway.errors import InvalidRequest

_UNSUPPORTED: Final[Mapping[str, tuple[tuple[Any, ...], str]]] = {
    "access_programs": ((), "leave it out"),
    "background": ((False,), "leave it out, or send false and read the answer as it is made"),
    "background_options": ((), "leave it out"),
    "context_management": (([],), "leave it out, and send fewer items where the context is full"),
    "conversation": ((), "go on from a response with previous_response_id"),
    "image": ((), "leave it out"),
    "moderation": ((), "leave it out"),
    "prompt": ((), "send the text in instructions and input"),
    "prompt_cache_options": ((), "leave it out: equal beginnings of prompts are kept without it"),
    "service_tier": (("auto", "default"), "leave it out; x-lorry-priority lowers the priority of a request"),
    "truncation": (("disabled",), "leave it out, and send fewer items where the context is full"),
}
"""Field of OpenAI's -> the values with which it asks for nothing, and what to do instead of others."""
_INCLUDABLE: Final = (
    "message.output_text.logprobs",
    "reasoning.encrypted_content",
    "message.input_image.image_url",
    "code_interpreter_call.outputs",
    "computer_call_output.output.image_url",
    "file_search_call.results",
    "web_search_call.action.sources",
    "web_search_call.results",
)
_LOGPROBS: Final = _INCLUDABLE[0]
_PASSED: Final = ("temperature", "top_p", "user", "safety_identifier", "prompt_cache_key")
"""Fields that the chat has by the same name and meaning."""
_SAMPLING: Final = (
    *("seed", "stop", "top_k", "min_p", "frequency_penalty", "presence_penalty", "repetition_penalty", "logit_bias"),
    *("min_tokens", "ignore_eos", "stop_token_ids", "skip_special_tokens", "chat_template_kwargs"),
)
"""Fields of a chat that OpenAI's Responses lack and engines take."""
_OURS: Final = frozenset(
    {
        *("model", "input", "instructions", "stream", "stream_options", "store", "previous_response_id", "metadata"),
        *("tools", "tool_choice", "parallel_tool_calls", "max_tool_calls", "text", "reasoning", "include"),
        *("max_output_tokens", "top_logprobs", "prompt_cache_retention"),
        *_PASSED,
        *_SAMPLING,
    }
)
_MOST_PAIRS, _LONGEST_NAME, _LONGEST_VALUE = 16, 64, 512
_MOST_LOGPROBS: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedResponse:
    """A request, read."""

    chat: Mapping[str, Any]
    """The request of the chat."""
    template: Mapping[str, Any]
    """The response as it begins: what repeats the request, and no output."""
    items: tuple[Item, ...]
    """The items of this turn."""
    token: str
    at: float
    is_stored: bool
    must_keep: bool
    """The client insists that the response is stored."""


def asked_of(request: Mapping[str, Any], arrival: Arrival, *, may_store: bool) -> AskedResponse:
    """Return *request* read; `InvalidRequest` names the field at fault and what would be right."""
    _check_names(request)
    store = member(request, "store", bool)
    if store and not may_store:
        raise unsupported("store", "this house stores no responses (setting store_responses); leave it out")
    items = ItemReader(arrival.token, arrival.referenced).read(request.get("input"))
    previous = member(request, "previous_response_id", str)
    if not items and previous is None:
        raise InvalidRequest("input is missing: a text or a list of items is needed", param="input")
    is_stored = may_store if store is None else store
    return AskedResponse(
        chat=_chat_of(request, arrival, items),
        template=_template_of(request, arrival, is_stored=is_stored),
        items=tuple(items),
        token=arrival.token,
        at=arrival.at,
        is_stored=is_stored,
        must_keep=store is True,
    )


def _check_names(request: Mapping[str, Any]) -> None:
    for name, value in request.items():
        if name in _UNSUPPORTED:
            neutral, instead = _UNSUPPORTED[name]
            if value not in neutral:
                raise unsupported(name, instead)
        elif name not in _OURS:
            raise InvalidRequest(
                f"unknown field {shown(name)}; the fields are {', '.join(sorted(_OURS))}", param=name[:_LONGEST_NAME]
            )


def _chat_of(request: Mapping[str, Any], arrival: Arrival, items: list[Item]) -> dict[str, Any]:
    earlier = [item for each in arrival.earlier for item in (*each.input_items, *each.body["output"])]
    instructions = member(request, "instructions", str)
    chat: dict[str, Any] = {"model": request["model"], "messages": messages_of(instructions, [*earlier, *items])}
    chat |= {name: request[name] for name in (*_PASSED, *_SAMPLING) if name in request}
    if (most := member(request, "max_output_tokens", int)) is not None:
        if most < 1:
            raise InvalidRequest(f"max_output_tokens must be at least 1; got {most}", param="max_output_tokens")
        chat["max_tokens"] = most
    chat |= tool_use_of(request).chat
    chat |= _logprobs_of(request) | _format_of(request) | _reasoning_of(request)
    if _is_streamed(request):
        chat |= {"stream": True, "stream_options": {"include_usage": True}}
    return chat


def _template_of(request: Mapping[str, Any], arrival: Arrival, *, is_stored: bool) -> dict[str, Any]:
    text = member(request, "text", dict) or {}
    reasoning = member(request, "reasoning", dict) or {}
    use = tool_use_of(request)
    parallel = member(request, "parallel_tool_calls", bool)
    most_calls = member(request, "max_tool_calls", int)
    return {
        "id": response_id_of(arrival.token),
        "object": "response",
        "created_at": int(arrival.at),
        "status": "in_progress",
        "background": False,
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "instructions": member(request, "instructions", str),
        "max_output_tokens": member(request, "max_output_tokens", int),
        "max_tool_calls": most_calls,
        "model": request["model"],
        "output": [],
        "parallel_tool_calls": True if parallel is None else parallel,
        "previous_response_id": member(request, "previous_response_id", str),
        "prompt_cache_key": member(request, "prompt_cache_key", str),
        "prompt_cache_retention": member(request, "prompt_cache_retention", str),
        "reasoning": {"effort": reasoning.get("effort"), "summary": reasoning.get("summary")},
        "safety_identifier": member(request, "safety_identifier", str),
        "service_tier": "default",
        "store": is_stored,
        "temperature": request.get("temperature"),
        "text": {"format": text.get("format") or {"type": "text"}, "verbosity": "medium"},
        "tool_choice": use.choice,
        "tools": list(use.tools),
        "top_logprobs": member(request, "top_logprobs", int) or 0,
        "top_p": request.get("top_p"),
        "truncation": "disabled",
        "usage": None,
        "user": member(request, "user", str),
        "metadata": _metadata_of(request),
    }


def _is_streamed(request: Mapping[str, Any]) -> bool:
    options = member(request, "stream_options", dict) or {}
    for name in options:
        if name != "include_obfuscation":
            raise InvalidRequest(
                f"unknown field stream_options.{name[:_LONGEST_NAME]}; include_obfuscation is the only one",
                param="stream_options",
            )
    if member(options, "include_obfuscation", bool, "stream_options"):
        raise unsupported("stream_options.include_obfuscation", "leave it out, or send false")
    return member(request, "stream", bool) or False


def _logprobs_of(request: Mapping[str, Any]) -> dict[str, Any]:
    included = member(request, "include", list) or []
    for at, each in enumerate(included):
        one_of(each, _INCLUDABLE, f"include[{at}]")
    most = member(request, "top_logprobs", int) or 0
    if not 0 <= most <= _MOST_LOGPROBS:
        raise InvalidRequest(f"top_logprobs must be from 0 to {_MOST_LOGPROBS}; got {most}", param="top_logprobs")
    if _LOGPROBS not in included and not most:
        return {}
    return {"logprobs": True, "top_logprobs": most}


def _format_of(request: Mapping[str, Any]) -> dict[str, Any]:
    text = member(request, "text", dict) or {}
    for name in text:
        if name not in ("format", "verbosity"):
            raise InvalidRequest(f"unknown field text.{name[:_LONGEST_NAME]}; there are format and verbosity", "text")
    if (member(text, "verbosity", str, "text") or "medium") != "medium":
        raise unsupported("text.verbosity", "ask for short or long answers in instructions")
    wanted = member(text, "format", dict, "text")
    if wanted is None:
        return {}
    where = "text.format"
    kind = one_of(needed(wanted, "type", str, where), ("text", "json_object", "json_schema"), f"{where}.type")
    if kind != "json_schema":
        return {} if kind == "text" else {"response_format": {"type": kind}}
    schema: dict[str, Any] = {
        "name": needed(wanted, "name", str, where),
        "schema": needed(wanted, "schema", dict, where),
    }
    for name, of in (("strict", bool), ("description", str)):
        if (value := member(wanted, name, of, where)) is not None:
            schema[name] = value
    return {"response_format": {"type": kind, "json_schema": schema}}


def _reasoning_of(request: Mapping[str, Any]) -> dict[str, Any]:
    reasoning = member(request, "reasoning", dict) or {}
    for name, value in reasoning.items():
        if name == "effort" or value is None:
            continue
        if name not in ("summary", "generate_summary"):
            raise unsupported(f"reasoning.{name[:_LONGEST_NAME]}", "there are effort and summary")
        if value != "auto":
            raise unsupported(
                f"reasoning.{name}", "leave it out, or send auto: reasoning comes whole, and not summed up"
            )
    effort = member(reasoning, "effort", str, "reasoning")
    return {} if effort is None else {"reasoning_effort": effort}


def _metadata_of(request: Mapping[str, Any]) -> dict[str, str]:
    pairs = as_object(request.get("metadata", {}), "metadata")
    if len(pairs) > _MOST_PAIRS:
        raise InvalidRequest(f"metadata must have at most {_MOST_PAIRS} pairs; got {len(pairs)}", param="metadata")
    for name, value in pairs.items():
        if not isinstance(value, str) or len(name) > _LONGEST_NAME or len(value) > _LONGEST_VALUE:
            raise InvalidRequest(
                f"metadata.{name[:_LONGEST_NAME]} must be a text of at most {_LONGEST_VALUE} characters, "
                f"under a name of at most {_LONGEST_NAME}",
                param="metadata",
            )
    return dict(pairs)
