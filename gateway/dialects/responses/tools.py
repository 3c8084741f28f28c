"""Tools and the choice among them, from Responses' form to the chat's. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gateway.dialects.responses.fields import as_object, member, needed, one_of, shown, unsupported, wrong
from gateway.errors import InvalidRequest

_MODES: Final = ("none", "auto", "required")
_FUNCTIONS_ONLY: Final = "tools are functions (type function), which the client calls itself"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolUse:
    """The members of a request that concern tools."""

    tools: Sequence[Mapping[str, Any]]
    """The tools as the response lists them."""
    choice: Any
    """The choice as the response has it."""
    chat: Mapping[str, Any]
    """The members of the chat request about tools."""


def tool_use_of(request: Mapping[str, Any]) -> ToolUse:
    """Return the parameters of *request* about tools; `InvalidRequest`."""
    given = member(request, "tools", list) or []
    tools = [_tool(each, f"tools[{at}]") for at, each in enumerate(given)]
    choice = request.get("tool_choice", "auto")
    names = [tool["name"] for tool in tools]
    chosen, offered = _choice(choice, names)
    chat: dict[str, Any] = {}
    # A tool that must not be called is not shown either, so that the prompt is the same on every engine.
    if chosen != "none" and (tools_sent := [_chat_tool(tool) for tool in tools if tool["name"] in offered]):
        chat = {"tools": tools_sent, "tool_choice": chosen}
        if (parallel := member(request, "parallel_tool_calls", bool)) is not None:
            chat["parallel_tool_calls"] = parallel
    return ToolUse(tools=tools, choice=choice, chat=chat)


def _tool(given: Any, where: str) -> dict[str, Any]:
    tool = as_object(given, where)
    kind = needed(tool, "type", str, where)
    if kind != "function":
        raise unsupported(f"{where}.type", _FUNCTIONS_ONLY, kind)
    if tool.get("defer_loading"):
        raise unsupported(f"{where}.defer_loading", "every tool is there from the beginning")
    # A null here says something: a function without arguments, and one whose arguments are held to no schema.
    return {
        "type": "function",
        "name": needed(tool, "name", str, where),
        "description": member(tool, "description", str, where),
        "parameters": member(tool, "parameters", dict, where),
        "strict": member(tool, "strict", bool, where) or False,
    }


def _chat_tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    function = {name: tool[name] for name in ("name", "description", "parameters") if tool[name] is not None}
    if tool["strict"]:
        function["strict"] = True
    return {"type": "function", "function": function}


def _choice(choice: Any, names: Sequence[str]) -> tuple[Any, Sequence[str]]:
    """Return the chat's choice, and the names of the tools that the model may call."""
    if isinstance(choice, str):
        mode = one_of(choice, _MODES, "tool_choice")
        if mode == "required" and not names:
            raise InvalidRequest("tool_choice is required, and there are no tools", param="tool_choice")
        return mode, names
    if not isinstance(choice, dict):
        raise wrong("tool_choice", f"one of {', '.join(_MODES)} or an object", choice)
    match needed(choice, "type", str, "tool_choice"):
        case "function":
            name = _known(needed(choice, "name", str, "tool_choice"), names, "tool_choice.name")
            return {"type": "function", "function": {"name": name}}, names
        case "allowed_tools":
            mode = one_of(needed(choice, "mode", str, "tool_choice"), _MODES[1:], "tool_choice.mode")
            return mode, _allowed(needed(choice, "tools", list, "tool_choice"), names)
        case kind:
            raise unsupported("tool_choice.type", "the types are function and allowed_tools", kind)


def _allowed(given: Sequence[Any], names: Sequence[str]) -> list[str]:
    allowed = []
    for at, each in enumerate(given):
        where = f"tool_choice.tools[{at}]"
        tool = as_object(each, where)
        if (kind := needed(tool, "type", str, where)) != "function":
            raise unsupported(f"{where}.type", _FUNCTIONS_ONLY, kind)
        allowed.append(_known(needed(tool, "name", str, where), names, f"{where}.name"))
    if not allowed:
        raise InvalidRequest("tool_choice.tools must name at least one tool", param="tool_choice.tools")
    return allowed


def _known(name: str, names: Sequence[str], where: str) -> str:
    if name not in names:
        raise InvalidRequest(f"{where} {shown(name)} is none of the tools: {', '.join(names) or 'none'}", param=where)
    return name
