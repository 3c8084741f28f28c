"""Why an answer ended and what it used, in Anthropic's words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

Json = dict[str, Any]
_CUT: Final = ("length",)
_ENDED: Final = ("stop", "tool_calls", "function_call")
_FILTERED: Final = ("content_filter",)


class Ending(NamedTuple):
    """The members of a message that name its end."""

    stop_reason: str
    stop_sequence: str | None = None


def ending_of(choice: Mapping[str, Any], stops: Sequence[str], *, has_calls: bool, has_refusal: bool) -> Ending:
    """Return the end of a chat's *choice*; `ValueError` for one that broke off in the engine.

    *stops* are the stop sequences of the request. vLLM and Lorry's engine report the one that was met in
    `stop_reason`, SGLang in `matched_stop`; both have tokens there too, which are numbers.
    """
    reason = choice.get("finish_reason")
    if reason in _CUT:
        return Ending("max_tokens")
    if reason in _FILTERED or (has_refusal and reason in _ENDED):
        return Ending("refusal")
    if reason not in _ENDED:
        raise ValueError("the engine gave no reason to finish that is known")
    if has_calls:
        return Ending("tool_use")
    for name in ("stop_reason", "matched_stop"):
        if isinstance(found := choice.get(name), str) and found in stops:
            return Ending("stop_sequence", found)
    return Ending("end_turn")


def usage_of(usage: Mapping[str, Any] | None) -> Json:
    """Return a chat's *usage* as Anthropic counts: `input_tokens` are those that were not read from a cache."""
    usage = usage or {}
    prompt, cached = int(usage.get("prompt_tokens") or 0), _detail(usage, "prompt_tokens_details", "cached_tokens")
    found: Json = {
        "input_tokens": prompt - min(cached or 0, prompt),
        "cache_creation_input_tokens": None if cached is None else 0,
        "cache_read_input_tokens": cached,
        "output_tokens": int(usage.get("completion_tokens") or 0),
    }
    thought = _detail(usage, "completion_tokens_details", "reasoning_tokens")
    if thought is not None:
        found["output_tokens_details"] = {"thinking_tokens": thought}
    return found


def _detail(usage: Mapping[str, Any], group: str, name: str) -> int | None:
    details = usage.get(group)
    value = details.get(name) if isinstance(details, dict) else None
    return None if value is None else int(value)
