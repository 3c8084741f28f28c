"""Lines of the methods that learn preferences: pairs of answers in OpenAI's format, and single answers with a label."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from registry.contracts.training_file import (
    LINE_FIELDS,
    TrainingRow,
    check_answers,
    check_line_fields,
    check_parallel,
    parse_chat,
    parse_messages,
)
from registry.contracts.training_json import json_kind, shown
from registry.contracts.training_message import ChatMessage, parse_tools
from registry.errors import TrainingFileInvalid

PAIR_FIELDS: Final = ("input", "preferred_output", "non_preferred_output")
PAIR_SHAPE: Final = (
    '{"input": {"messages": [...]}, "preferred_output": [{"role": "assistant", "content": ...}], '
    '"non_preferred_output": [{"role": "assistant", "content": ...}]}'
)
RATED_FIELDS: Final = (*LINE_FIELDS, "label")
RATED_SHAPE: Final = '{"messages": [...], "label": true}'
OUTPUT_ROLES: Final = ("assistant", "tool")


@dataclass(frozen=True, slots=True, kw_only=True)
class PairRow:
    """A prompt with two answers, of which people prefer the first. Only turns of the answers are learnt."""

    line: int
    preferred: TrainingRow
    """The prompt and the preferred answer."""
    rejected: TrainingRow
    """The same prompt and the other answer."""
    prompt_turns: int
    """How many messages both begin with."""

    @property
    def chats(self) -> tuple[TrainingRow, ...]:
        """Both chats, the preferred one first."""
        return self.preferred, self.rejected

    @property
    def messages(self) -> tuple[ChatMessage, ...]:
        """Every message of the line once."""
        return self.preferred.messages + self.rejected.messages[self.prompt_turns :]

    @property
    def learnt_turns(self) -> int:
        """Learnt answers of both chats."""
        return self.preferred.learnt_turns + self.rejected.learnt_turns

    @property
    def characters(self) -> int:
        """Length of all messages, the prompt counted once."""
        return sum(len(message.content) for message in self.messages)


@dataclass(frozen=True, slots=True, kw_only=True)
class RatedRow:
    """A chat whose last answer people found desirable, or not. Only this answer is learnt."""

    line: int
    chat: TrainingRow
    is_desirable: bool

    @property
    def chats(self) -> tuple[TrainingRow, ...]:
        """The chat."""
        return (self.chat,)

    @property
    def messages(self) -> tuple[ChatMessage, ...]:
        """Every message of the line."""
        return self.chat.messages

    @property
    def learnt_turns(self) -> int:
        """Number of answers in a line: the rated one."""
        return self.chat.learnt_turns

    @property
    def characters(self) -> int:
        """Length of all messages."""
        return self.chat.characters


def parse_pair_line(fields: Mapping[str, Any], number: int) -> PairRow:
    """Return the pair of a line's fields; `TrainingFileInvalid` names line and field.

    Assistant turns of the input are context, whatever their weight.
    """
    where = f"line {number}"
    check_line_fields(fields, PAIR_FIELDS, where)
    missing = [name for name in PAIR_FIELDS if name not in fields]
    if missing:
        raise TrainingFileInvalid(f"{where}: {missing[0]} is missing; a line is {PAIR_SHAPE}")
    asked = fields["input"]
    if not isinstance(asked, dict):
        raise TrainingFileInvalid(f"{where}: input must be an object with messages, not {json_kind(asked)}")
    check_line_fields(asked, LINE_FIELDS, f"{where}: input")
    if "messages" not in asked:
        raise TrainingFileInvalid(f"{where}: input.messages is missing; a line is {PAIR_SHAPE}")
    prompt = _as_context(parse_messages(asked["messages"], f"{where}: input.messages"))
    preferred, rejected = (_parse_output(fields, name, where) for name in PAIR_FIELDS[1:])
    if preferred == rejected:
        raise TrainingFileInvalid(f"{where}: preferred_output and non_preferred_output are equal; nothing to prefer")
    outputs = {"preferred_output": preferred, "non_preferred_output": rejected}
    check_parallel(asked.get("parallel_tool_calls", True), {"input.messages": prompt, **outputs}, where)
    tools = parse_tools(asked.get("tools", []), f"{where}: input.tools")
    return PairRow(
        line=number,
        preferred=TrainingRow(line=number, messages=prompt + preferred, tools=tools),
        rejected=TrainingRow(line=number, messages=prompt + rejected, tools=tools),
        prompt_turns=len(prompt),
    )


def parse_rated_line(fields: Mapping[str, Any], number: int) -> RatedRow:
    """Return the rated chat of a line's fields; `TrainingFileInvalid` names line and field.

    The last answer is the rated one; earlier assistant turns are context, whatever their weight.
    """
    where = f"line {number}"
    check_line_fields(fields, RATED_FIELDS, where)
    label = fields["label"]
    if not isinstance(label, bool):
        raise TrainingFileInvalid(
            f"{where}: label must be true (a good answer) or false (a bad one), not {shown(label)}; "
            "chats to learn as they are have no label"
        )
    chat = parse_chat(fields, where, number)
    messages = _as_context(chat.messages[:-1]) + chat.messages[-1:]
    check_answers(messages, where)
    return RatedRow(line=number, chat=replace(chat, messages=messages), is_desirable=label)


def _parse_output(fields: Mapping[str, Any], name: str, where: str) -> tuple[ChatMessage, ...]:
    messages = parse_messages(fields[name], f"{where}: {name}")
    for at, message in enumerate(messages):
        if message.role not in OUTPUT_ROLES:
            raise TrainingFileInvalid(
                f"{where}: {name}[{at}].role is {message.role}; an output has assistant messages, "
                "and tool messages between them"
            )
    check_answers(messages, where, name)
    return messages


def _as_context(messages: tuple[ChatMessage, ...]) -> tuple[ChatMessage, ...]:
    return tuple(replace(message, is_learnt=False) for message in messages)
