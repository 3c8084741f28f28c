"""The tools of a request and the choice among them, as those of a chat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import orjson

from gateway.dialects.messages.members import Members, fault, shown

Json = dict[str, Any]
_CHOICES: Final = ("auto", "any", "tool", "none")
_TAKEN: Final = ("type", "name", "description", "input_schema", "strict", "input_examples")
_PASSED_OVER: Final = ("cache_control", "eager_input_streaming", "allowed_callers", "defer_loading")
"""Members that change nothing here: `allowed_callers` and `defer_loading` with other values are refused."""


def chat_tools(body: Members) -> Json:
    """Return the members of a chat about tools, none where the model must not call any; `InvalidRequest`."""
    tools = [_tool(each) for each in body.each("tools")]
    names = [tool["function"]["name"] for tool in tools]
    for place, name in enumerate(names):
        if name in names[:place]:
            raise fault(f"tools[{place}].name", f"must be other than those before it, not {shown(name)}")
    choice = _choice(body.members("tool_choice"), names)
    # The engines differ in whether they show the model tools that it must not call.
    if not tools or choice.get("tool_choice") == "none":
        return {}
    return {"tools": tools, **choice}


def _tool(tool: Members) -> Json:
    kind = tool.text("type")
    if kind not in (None, "custom"):
        raise fault(
            tool.path("type"),
            f"must not be {shown(kind)}: Anthropic's own tools are not here; describe it as a custom tool, "
            "with name, description and input_schema",
        )
    tool.only(*_TAKEN, *_PASSED_OVER)
    tool.refuse("defer_loading", "must be false: every tool is shown to the model")
    tool.refuse("allowed_callers", 'must be ["direct"]: there is no code execution here', unless=([], ["direct"]))
    function: Json = {"name": tool.required_text("name"), "parameters": tool.required_mapping("input_schema")}
    if not function["name"]:
        raise fault(tool.path("name"), "must not be empty")
    if text := _description(tool):
        function["description"] = text
    if tool.flag("strict"):
        function["strict"] = True
    return {"type": "function", "function": function}


def _description(tool: Members) -> str:
    """Return the description, with the examples of inputs, for which a chat has no place of their own."""
    examples = tool.entries("input_examples") or []
    lines = [orjson.dumps(example).decode() for example in examples]
    texts = [tool.text("description") or "", "\n".join(["Examples of its input:", *lines]) if lines else ""]
    return "\n\n".join(text for text in texts if text)


def _choice(choice: Members | None, names: Sequence[str]) -> Json:
    if choice is None:
        return {}
    choice.only("type", "name", "disable_parallel_tool_use")
    kind = choice.word("type", _CHOICES)
    if kind is None:
        raise fault(choice.path("type"), "is required")
    if kind in ("any", "tool") and not names:
        raise fault("tool_choice", f"must not be {shown(kind)} without tools")
    chosen: Json = {"parallel_tool_calls": False} if choice.flag("disable_parallel_tool_use") else {}
    if kind != "tool":
        return {"tool_choice": "required" if kind == "any" else kind, **chosen}
    name = choice.required_text("name")
    if name not in names:
        raise fault(choice.path("name"), f"must be the name of one of tools, not {shown(name)}")
    return {"tool_choice": {"type": "function", "function": {"name": name}}, **chosen}
