"""ShareGPT: `conversations` of turns with `from` and `value`; with `chosen` and `rejected` beside them, pairs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from corpus.forms.form import SYSTEM_FIELDS, Form, Row, RowRefused, as_json, chat, text_of

ROLES: Final[Mapping[str, str]] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "bard": "assistant",
    "bing": "assistant",
    "model": "assistant",
    "system": "system",
    "tool": "tool",
    "observation": "tool",
    "function_response": "tool",
    "function_call": "function_call",
    "tool_call": "function_call",
}


def _fits(row: Row) -> bool:
    return "conversations" in row or "conversation" in row


def _line(row: Row) -> dict[str, Any]:
    name = "conversations" if row.get("conversations") else "conversation"
    entries = as_json(row.get(name), name)
    if not isinstance(entries, list) or not entries:
        raise RowRefused(f"{name} must be a list of turns")
    tools = _tools(row)
    turns = _turns(entries, name)
    if row.get("chosen") and row.get("rejected"):
        answers = [_turns([as_json(row[field], field)], field) for field in ("chosen", "rejected")]
        return {
            "input": chat(text_of(row, *SYSTEM_FIELDS), turns, tools),
            "preferred_output": answers[0],
            "non_preferred_output": answers[1],
        }
    while turns and turns[-1]["role"] == "user":  # a dump often ends with a question that nobody answered
        raise RowRefused("the last turn is the user's: there is no answer to learn")
    return chat(text_of(row, *SYSTEM_FIELDS), turns, tools)


def _turns(entries: Sequence[object], name: str) -> list[dict[str, Any]]:
    turns: list[dict[str, Any]] = []
    for at, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise RowRefused(f"{name}[{at}] must be an object with from and value")
        given = entry.get("from", entry.get("role"))
        role = ROLES.get(str(given).lower())
        if role is None:
            raise RowRefused(f"{name}[{at}].from {given!r} is unknown; there are {', '.join(ROLES)}")
        value = entry.get("value", entry.get("content"))
        if not isinstance(value, str):
            raise RowRefused(f"{name}[{at}].value must be a text")
        turns.append(_turn(role, value, entry, at))
    return turns


def _turn(role: str, value: str, entry: Mapping[str, Any], at: int) -> dict[str, Any]:
    if role == "function_call":
        return {"role": "assistant", "tool_calls": _calls(value, at)}
    weight = entry.get("weight")
    kept = {"weight": int(weight)} if role == "assistant" and weight in (0, 1) else {}
    return {"role": role, "content": value, **kept}


def _calls(value: str, at: int) -> list[dict[str, Any]]:
    found = as_json(value, f"conversations[{at}].value")
    calls = found if isinstance(found, list) else [found]
    made = []
    for number, call in enumerate(calls):
        if not isinstance(call, dict) or not isinstance(call.get("name"), str):
            raise RowRefused(f"conversations[{at}].value must be a call with name and arguments")
        arguments = call.get("arguments", call.get("parameters", {}))
        text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
        function = {"name": call["name"], "arguments": text}
        made.append({"id": f"call_{at}_{number}", "type": "function", "function": function})
    return made


def _tools(row: Row) -> list[Any] | None:
    found = as_json(row.get("tools"), "tools")
    if not found:
        return None
    if not isinstance(found, list):
        raise RowRefused("tools must be a list")
    return [tool if "function" in tool else {"type": "function", "function": tool} for tool in found]


SHAREGPT: Final = Form(name="sharegpt", fields="conversations of from and value", fits=_fits, line=_line)
