"""Members of a completion's body that ask for nothing: taken out, as some engines refuse them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw

NULL: Final = Raw(b"null")
_NARROWEST: Final = Raw(b"1e-06")
"""A nucleus of the likeliest token alone, for engines that refuse a `top_p` of 0."""
_NEUTRAL: Final[Mapping[str, tuple[Any, ...]]] = {
    "best_of": (1,),
    "suffix": ("",),
    "stop": ("", [], [""]),
    "logit_bias": ({},),
    "tools": ([],),
    "functions": ([],),
    "top_p": (0,),
}
"""Name of a field -> the values with which it asks for nothing, or for what `_NARROWEST` asks for."""
_ABOUT_TOOLS: Final[Mapping[str, tuple[str, ...]]] = {
    "tools": ("tool_choice", "parallel_tool_calls"),
    "functions": ("function_call",),
}
_IDLE_CHOICES: Final = ("none", "auto", True, False)
NEUTRAL_FIELDS: Final = frozenset(_NEUTRAL).union(*_ABOUT_TOOLS.values())
"""Fields with such values; a body without them needs no look."""
_KEPT: Final = frozenset({"content"})
"""Null stays here: every engine takes it, and one of them looks for the member."""
_NOT_OURS: Final = frozenset({"arguments", "input", "parameters"})
"""Members whose inside belongs to the caller's tools, where null is a value."""
_LONGEST: Final = 64
_ANY: Final = msgspec.json.Decoder()
_ENCODER: Final = msgspec.json.Encoder()


def without_neutral(members: Mapping[str, Raw]) -> dict[str, Raw]:
    """Return *members* without those that ask for nothing; `top_p: 0` becomes what every engine takes for it."""
    kept = {name: raw for name, raw in members.items() if not (name in _NEUTRAL and _is_one_of(raw, _NEUTRAL[name]))}
    if "top_p" in members and "top_p" not in kept:
        kept["top_p"] = _NARROWEST
    # `best_of: 1` beside a larger `n` contradicts it, which the engine is to say.
    if "best_of" in members and "n" in members and not _is_one_of(members["n"], (1,)):
        kept["best_of"] = members["best_of"]
    for subject, names in _ABOUT_TOOLS.items():
        if subject not in kept:
            idle = [name for name in names if name in kept and _is_one_of(kept[name], _IDLE_CHOICES)]
            kept = {name: raw for name, raw in kept.items() if name not in idle}
    return kept


def without_nulls_in(messages: Raw) -> Raw:
    """Return *messages* of a chat without members that are null; as they are where they cannot be decoded."""
    try:
        return Raw(_ENCODER.encode(_pruned(_ANY.decode(messages))))
    except (ValueError, OverflowError, RecursionError):
        return messages


def _pruned(value: Any) -> Any:
    if isinstance(value, list):
        return [_pruned(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        name: each if name in _NOT_OURS else _pruned(each)
        for name, each in value.items()
        if each is not None or name in _KEPT
    }


def _is_one_of(raw: Raw, neutral: tuple[Any, ...]) -> bool:
    if memoryview(raw).nbytes > _LONGEST:
        return False
    try:
        value = _ANY.decode(raw)
    except msgspec.DecodeError:
        return False
    # Python takes True for 1, JSON does not.
    return any(value == each and isinstance(value, bool) == isinstance(each, bool) for each in neutral)
