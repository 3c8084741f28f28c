"""Fields of a chat that an engine names, as the client of a message knows them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from gateway.dialects.messages.conversation import Origin

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
_IN_MESSAGES: Final = re.compile(r"messages\[(\d+)\](?:\.(content|tool_calls)\[(\d+)\])?(.*)")


def asked_field(field: str, origins: Sequence[Origin]) -> str:
    """Return the name of the member that *field* of the chat was made from; *origins* are those of its messages."""
    if (found := _IN_MESSAGES.fullmatch(field)) and int(found[1]) < len(origins):
        return _in_conversation(origins[int(found[1])], found[2], int(found[3] or 0), found[4])
    field = _IN_TOOLS.sub(lambda found: f"{found[1]}.{'input_schema' if found[2] else found[3]}", field)
    head = re.split(r"[.\[]", field, maxsplit=1)[0]
    return _NAMES.get(head, head) + field[len(head) :]


def _in_conversation(origin: Origin, group: str | None, place: int, rest: str) -> str:
    blocks = origin.parts if group == "content" else origin.calls
    if group is None:
        return origin.path + rest
    return blocks[place] + rest if place < len(blocks) else origin.path
