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
    """Return OpenAI's *envelope* as Anthropic's body."""
    error = envelope.get("error")
    if not isinstance(error, dict):
        error = {"message": str(error or "the request failed")}
    code, field = error.get("code"), error.get("param")
    message = str(error.get("message") or "the request failed")
    kind = _TYPES.get(status_of(status, code), "invalid_request_error" if status < 500 else "api_error")
    details = {"error_code": code if isinstance(code, str) else None, "field": field if field else None}
    named = {name: value for name, value in details.items() if value is not None}
    refusal: Json = {"type": kind, "message": _in_its_words(message)}
    if named:
        refusal["details"] = named
    return {"type": "error", "error": refusal, "request_id": request_id}


def _in_its_words(message: str) -> str:
    """Return the *message*, of a conversation that is too long in Anthropic's words."""
    for numbers in _NUMBERS:
        if found := numbers.search(message):
            return _too_long(found.groupdict())
    return message


def _too_long(found: Mapping[str, str | None]) -> str:
    """Return the words by which Claude Code and others recognise the fault, and shorten what they sent."""
    prompt, most, answer = int(found["prompt"] or 0), int(found["most"] or 0), found.get("answer")
    if answer is None or prompt >= most:
        return f"prompt is too long: {prompt} tokens > {most} maximum"
    return (
        f"input length and `max_tokens` exceed context limit: {prompt} + {answer} > {most}, decrease input length or "
        "`max_tokens` and try again"
    )
