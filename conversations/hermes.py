"""Tools for models whose chat template has none, in the form that Hermes made common: as text, between tags."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, Final

from conversations.call_forms import HERMES
from conversations.turns import Call, Turn, shown_tool

_OFFER: Final = """# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{tools}
</tools>

For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:
<tool_call>
{{"name": <function-name>, "arguments": <args-json-object>}}
</tool_call>"""
"""The words of the templates of Qwen 2.5 and 3."""

Message = dict[str, Any]


def as_plain_messages(
    turns: Sequence[Turn], tools: Sequence[Mapping[str, Any]], *, takes_system: bool
) -> tuple[list[Message], list[int]]:
    """Return messages of system, user and assistant alone, and for each turn the place of the message that has it.

    *tools* are offered in the system's message, in the first of the user where *takes_system* is false.
    """
    messages: list[Message] = []
    places: list[int] = []
    for is_result, group in groupby(turns, lambda turn: turn.role == "tool"):
        members = list(group)
        places += [len(messages) + (0 if is_result else at) for at in range(len(members))]
        # Neighbouring results are one message: many templates want user and assistant to take turns.
        messages += [_results(members)] if is_result else map(_plain, members)
    if not tools:
        return messages, places
    offer, host = _offer(tools), "system" if takes_system else "user"
    at = next((at for at, message in enumerate(messages) if message["role"] == host), None)
    if at is None or (takes_system and at > 0):
        return [{"role": host, "content": offer}, *messages], [place + 1 for place in places]
    messages[at] = {**messages[at], "content": _with_offer(messages[at]["content"], offer, is_first=not takes_system)}
    return messages, places


def _offer(tools: Sequence[Mapping[str, Any]]) -> str:
    return _OFFER.format(tools="\n".join(_as_json(shown_tool(tool)) for tool in tools))


def _with_offer(content: Any, offer: str, *, is_first: bool) -> Any:
    """Return *content*, text or parts, with *offer* before or after it."""
    if isinstance(content, str):
        return "\n\n".join(filter(None, (offer, content) if is_first else (content, offer)))
    part = {"type": "text", "text": f"{offer}\n\n" if is_first else f"\n\n{offer}"}
    return [part, *content] if is_first else [*content, part]


def _plain(turn: Turn) -> Message:
    texts = filter(None, [turn.content])
    content = "\n".join([*texts, *map(_call, turn.calls)]) if turn.calls else turn.content
    return {"role": turn.role, "content": content} | ({"name": turn.name} if turn.name else {})


def _results(turns: Sequence[Turn]) -> Message:
    texts = [f"<tool_response>\n{turn.content}\n</tool_response>" for turn in turns]
    return {"role": "user", "content": "\n".join(texts)}


def _call(call: Call) -> str:
    form, arguments = HERMES, _as_json(call.arguments)
    return f"{form.begins}{form.before_name}{call.name}{form.before_arguments}{arguments}{form.after_arguments}"


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
