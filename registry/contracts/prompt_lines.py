"""Lines of the methods that learn from rewards: a chat that waits for an answer, and whatever its grader reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from registry.contracts.training_file import TrainingRow, parse_messages
from registry.contracts.training_message import ChatMessage
from registry.errors import TrainingFileInvalid

PROMPT_SHAPE: Final = '{"messages": [..., {"role": "user", "content": ...}], "answer": ...}'
NOT_FREE: Final = ("tools", "functions", "parallel_tool_calls")
"""Fields of other lines that mean tools, which no output here can call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptRow:
    """A prompt that outputs are sampled for."""

    line: int
    prompt: TrainingRow
    item: Mapping[str, Any]
    """All fields of the line, the messages too: `item` of graders."""

    @property
    def chats(self) -> tuple[TrainingRow, ...]:
        """The prompt."""
        return (self.prompt,)

    @property
    def messages(self) -> tuple[ChatMessage, ...]:
        """Every message of the prompt."""
        return self.prompt.messages

    @property
    def learnt_turns(self) -> int:
        """Number of answers of a line: the one that is sampled."""
        return 1

    @property
    def characters(self) -> int:
        """Length of the prompt."""
        return self.prompt.characters


def parse_prompt_line(fields: Mapping[str, Any], number: int) -> PromptRow:
    """Return the prompt of a line's fields; `TrainingFileInvalid` names line and field."""
    where = f"line {number}"
    if "messages" not in fields:
        raise TrainingFileInvalid(f"{where}: messages is missing; a line is {PROMPT_SHAPE}")
    for name in NOT_FREE:
        if name in fields:
            raise TrainingFileInvalid(f"{where}: {name}: outputs are text here and call no tools; leave it out")
    messages = parse_messages(fields["messages"], f"{where}: messages")
    last = messages[-1]
    if last.role != "user":
        raise TrainingFileInvalid(
            f"{where}: messages[{len(messages) - 1}].role is {last.role}; the last message must be from the user, "
            "and a reference answer belongs into a field of the line, such as answer"
        )
    if any(message.tool_calls or message.role == "tool" for message in messages):
        raise TrainingFileInvalid(f"{where}: messages: a prompt cannot have calls of tools here")
    return PromptRow(line=number, prompt=TrainingRow(line=number, messages=messages), item=fields)
