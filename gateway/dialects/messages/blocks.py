"""Blocks of an answer: a chat's message as blocks of content."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson
from pydantic_core import from_json

from gateway.dialects.messages.request import Thinking

Json = dict[str, Any]
SIGNATURE: Final = "unsigned"
"""Stands where Anthropic signs thoughts: clients want some text there, and Lorry lets any pass."""
_UNREADABLE: Final = "INVALID_JSON"
"""Holds arguments that are not an object of JSON, as Anthropic's documentation proposes."""


def thoughts_in(message: Mapping[str, Any]) -> str:
    """Return what a message or a piece of one has of the model's thoughts: engines have two names for them."""
    return message.get("reasoning_content") or message.get("reasoning") or ""


def blocks_of(message: Mapping[str, Any], thinking: Thinking, token: str) -> list[Json]:
    """Return the content of a whole answer; *token* makes an id for a call that the engine gave none."""
    blocks: list[Json] = []
    if thinking.is_wanted is not False and (thoughts := thoughts_in(message)):
        blocks.append(thinking_block(thoughts if thinking.is_shown else "", SIGNATURE))
    if text := message.get("content") or message.get("refusal") or "":
        blocks.append(text_block(text))
    for place, call in enumerate(message.get("tool_calls") or ()):
        function = call["function"]
        block = call_block(call.get("id") or call_id(token, place), function["name"])
        blocks.append(block | {"input": input_of(function.get("arguments") or "")})
    return blocks


def text_block(text: str) -> Json:
    """Return a block of text."""
    return {"type": "text", "text": text}


def thinking_block(thoughts: str, signature: str) -> Json:
    """Return a block of thoughts."""
    return {"type": "thinking", "thinking": thoughts, "signature": signature}


def call_block(id_: str, name: str) -> Json:
    """Return a block of a call, without its arguments."""
    return {"type": "tool_use", "id": id_, "name": name, "input": {}}


def call_id(token: str, place: int) -> str:
    """Return an id for a call that has none."""
    return f"toolu_{token}{place}"


def input_of(arguments: str) -> Json:
    """Return the arguments of a call; those that were cut off as far as they can be read, as clients read a stream."""
    if not arguments.strip():
        return {}
    try:
        value = orjson.loads(arguments)
    except orjson.JSONDecodeError:
        try:
            value = from_json(arguments, allow_partial=True)
        except ValueError:
            value = None
    return value if isinstance(value, dict) else {_UNREADABLE: arguments}
