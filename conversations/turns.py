"""Turns of a conversation, and the tools that its assistant may call, whoever wrote them down."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

_TOOL_MEMBERS: Final = ("name", "description", "parameters")
"""Members of a function that a model reads, in this order; others, such as `strict`, are for servers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A function that an assistant called."""

    name: str
    arguments: Any
    """An object; text where the assistant wrote something else."""
    id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A message."""

    role: str
    """`system`, `user`, `assistant` or `tool`."""
    content: Any
    """Text, or the list of parts that the chat templates of some models take."""
    name: str | None = None
    calls: tuple[Call, ...] = ()
    """Calls of an assistant."""
    call_id: str | None = None
    """The call that a tool's message answers."""

    def as_message(self) -> dict[str, Any]:
        """Return the turn as chat templates take it that know tools."""
        message: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.name:
            message["name"] = self.name
        if self.calls:
            message["tool_calls"] = [_as_tool_call(call) for call in self.calls]
        if self.call_id:
            message["tool_call_id"] = self.call_id
        return message


def turn_role(role: str) -> str:
    """Return the role as templates name it: a developer speaks as the system, a function is a tool."""
    return {"developer": "system", "function": "tool"}.get(role, role)


def read_arguments(text: str) -> Any:
    """Return the arguments of a call as an object, as templates write them as JSON; other text stays as it is."""
    if not text.strip():
        return {}
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def shown_tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tool as the model reads it: no null members, no members that are for servers, always in one order."""
    function = tool["function"]
    shown = {name: _without_nulls(function[name]) for name in _TOOL_MEMBERS if function.get(name) is not None}
    return {"type": "function", "function": shown}


def _as_tool_call(call: Call) -> dict[str, Any]:
    named = {"id": call.id} if call.id else {}
    return {**named, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _without_nulls(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_nulls(each) for each in value]
    if isinstance(value, dict):
        return {name: _without_nulls(each) for name, each in value.items() if each is not None}
    return value
