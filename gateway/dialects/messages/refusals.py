"""Errors in Anthropic's form."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

Json = dict[str, Any]
_TYPES: Final[Mapping[int, str]] = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
"""Status -> the type of its error; others below 500 are `invalid_request_error`, all else `api_error`."""
OVERLOADED: Final = 529
_OVERLOADED_CODES: Final = ("overloaded", "queue_full")
_NAMES: Final[Mapping[str, str]] = {
    "stop": "stop_sequences",
    "response_format": "output_config.format",
    "parallel_tool_calls": "tool_choice.disable_parallel_tool_use",
    "chat_template_kwargs": "thinking",
    "reasoning_effort": "output_config.effort",
    "user": "metadata.user_id",
}
"""Members of a chat -> the members of a message that they were made from."""
_IN_TOOLS: Final = re.compile(r"(tools\[\d+\])\.function\.(?:(parameters)|(name|description|strict))")
_FIRST_WORD: Final = re.compile(r"[\w.\[\]]+")
_TOO_LONG: Final = "context_length_exceeded"
_NUMBERS: Final = (
    # Lorry's engine
    re.compile(
        r"maximum context length is (?P<most>\d+) tokens\. However, your messages resulted in (?P<prompt>\d+) tokens"
        r"(?: and (?P<answer>\d+) more)?"
    ),
    # vLLM
    re.compile(
        r"maximum context length is (?P<most>\d+) tokens\. However, you requested (?P<answer>\d+) output tokens and "
        r"your prompt contains (?:at least )?(?P<prompt>\d+)"
    ),
    re.compile(r"maximum context length is (?P<most>\d+) tokens\. However, your prompt contains (?P<prompt>\d+)"),
    # SGLang
    re.compile(
        r"maximum context length of (?P<most>\d+) tokens\. You requested a total of \d+ tokens: (?P<prompt>\d+) tokens "
        r"from the input messages and (?P<answer>\d+)"
    ),
)


def status_of(status: int, code: str | None) -> int:
    """Return the status that Anthropic's clients expect for an error."""
    return OVERLOADED if status == 429 and code in _OVERLOADED_CODES else status


def refusal_of(status: int, envelope: Mapping[str, Any], request_id: str | None = None) -> Json:
    """Return OpenAI's *envelope* as Anthropic's body; the field at fault has the name that the client sent."""
    error = envelope.get("error")
    if not isinstance(error, dict):
        error = {"message": str(error or "the request failed")}
    code, field = error.get("code"), error.get("param")
    message = str(error.get("message") or "the request failed")
    kind = _TYPES.get(status_of(status, code), "invalid_request_error" if status < 500 else "api_error")
    details = {"error_code": code if isinstance(code, str) else None, "field": _renamed(field) if field else None}
    named = {name: value for name, value in details.items() if value is not None}
    refusal: Json = {"type": kind, "message": _in_its_words(message, field)}
    if named:
        refusal["details"] = named
    return {"type": "error", "error": refusal, "request_id": request_id}


def _in_its_words(message: str, field: Any) -> str:
    """Return the *message* with Anthropic's words for a conversation that is too long, or the client's field name."""
    for numbers in _NUMBERS:
        if found := numbers.search(message):
            return _too_long(found.groupdict())
    first = _FIRST_WORD.match(message)
    if first is None or not isinstance(field, str) or first[0] != field:
        return message
    return _renamed(field) + message[len(field) :]


def _too_long(found: Mapping[str, str | None]) -> str:
    """Return the words by which Claude Code and others recognise the fault, and shorten what they sent."""
    prompt, most, answer = int(found["prompt"] or 0), int(found["most"] or 0), found.get("answer")
    if answer is None or prompt >= most:
        return f"prompt is too long: {prompt} tokens > {most} maximum"
    return (
        f"input length and `max_tokens` exceed context limit: {prompt} + {answer} > {most}, decrease input length or "
        "`max_tokens` and try again"
    )


def _renamed(field: str) -> str:
    field = _IN_TOOLS.sub(lambda found: f"{found[1]}.{'input_schema' if found[2] else found[3]}", field)
    head, mark, rest = field.partition(".")
    if head.startswith("stop["):
        return f"stop_sequences{head[4:]}{mark}{rest}"
    return _NAMES.get(head, head) + mark + rest
