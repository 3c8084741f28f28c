"""Lines of a training file that are chats, or prompts with completions.

Upload and training parse a line by the same function. `registry.contracts.training_formats` lists the formats.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from registry.contracts.pictures.picture_part import MOST_PICTURES, PicturePart
from registry.contracts.plain_text import PlainText, parse_plain_text
from registry.contracts.training_json import shown
from registry.contracts.training_message import ChatMessage, parse_message, parse_tools
from registry.errors import TrainingFileInvalid

LINE_FIELDS: Final = ("messages", "tools", "parallel_tool_calls")
LINE_SHAPES: Final = '{"messages": [...]} or {"prompt": ..., "completion": ...}'

UTF8_BOM: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRow:
    """A chat, or a text, to learn from."""

    line: int
    """Number of its line in the file, from 1."""
    messages: tuple[ChatMessage, ...] = ()
    """Empty for a text."""
    tools: tuple[Mapping[str, Any], ...] = ()
    """Tools that the chat declares."""
    text: PlainText | None = None
    """Prompt and completion of a line that is no chat."""

    @property
    def learnt_turns(self) -> int:
        """Answers that carry loss."""
        return 1 if self.text is not None else sum(message.is_learnt for message in self.messages)

    @property
    def characters(self) -> int:
        """Length of everything that is read."""
        texts = [message.content for message in self.messages]
        return sum(map(len, texts if self.text is None else [self.text.prompt, self.text.completion]))

    @property
    def chats(self) -> tuple[TrainingRow, ...]:
        """The row itself."""
        return (self,)

    @property
    def pictures(self) -> tuple[PicturePart, ...]:
        """Pictures of the chat, in their order."""
        return tuple(picture for message in self.messages for picture in message.pictures)

    @property
    def calls_tools(self) -> bool:
        """True if an assistant turn calls a tool."""
        return any(message.tool_calls for message in self.messages)


def parse_text_line(fields: Mapping[str, Any], number: int) -> TrainingRow:
    """Return the text of a line's fields; `TrainingFileInvalid` names line and field."""
    return TrainingRow(line=number, text=parse_plain_text(fields, f"line {number}"))


def parse_chat_line(fields: Mapping[str, Any], number: int) -> TrainingRow:
    """Return the chat of a line's fields; `TrainingFileInvalid` names line and field."""
    where = f"line {number}"
    check_line_fields(fields, LINE_FIELDS, where, ", or prompt and completion")
    return parse_chat(fields, where, number, may_have_pictures=True)


def check_line_fields(fields: Mapping[str, Any], known: tuple[str, ...], where: str, others: str = "") -> None:
    """Raise `TrainingFileInvalid` for a field that is not *known*; the message lists these, and *others*."""
    for key in fields:
        if key not in known:
            hint = " (tools took its place)" if key == "functions" else ""
            listed = ", ".join(known) + others
            raise TrainingFileInvalid(f"{where}: unknown field {shown(key)}{hint}; the fields of a line are {listed}")


def parse_chat(fields: Mapping[str, Any], where: str, number: int, *, may_have_pictures: bool = False) -> TrainingRow:
    """Return the chat of a line's fields, which ends with an answer; `TrainingFileInvalid` names the field."""
    if "messages" not in fields:
        raise TrainingFileInvalid(f"{where}: messages is missing; a line is " + LINE_SHAPES)
    messages = parse_messages(fields["messages"], f"{where}: messages", may_have_pictures=may_have_pictures)
    if (count := sum(len(message.pictures) for message in messages)) > MOST_PICTURES:
        raise TrainingFileInvalid(f"{where}: messages has {count} pictures; the most in an example are {MOST_PICTURES}")
    check_answers(messages, where)
    check_parallel(fields.get("parallel_tool_calls", True), {"messages": messages}, where)
    return TrainingRow(line=number, messages=messages, tools=parse_tools(fields.get("tools", []), f"{where}: tools"))


def parse_messages(entries: object, where: str, *, may_have_pictures: bool = False) -> tuple[ChatMessage, ...]:
    """Return at least one message; `TrainingFileInvalid` names the field after *where*."""
    if not isinstance(entries, list) or not entries:
        raise TrainingFileInvalid(f"{where} must be a list with at least one message")
    return tuple(
        parse_message(entry, f"{where}[{at}]", may_have_pictures=may_have_pictures) for at, entry in enumerate(entries)
    )


def filled_lines(lines: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield lines with their numbers from 1, without a byte order mark; blank lines are numbered but skipped."""
    for number, line in enumerate(lines, start=1):
        text = line.removeprefix(UTF8_BOM)  # on any line, since files with such marks are joined to one
        if text.strip():
            yield number, text


def check_answers(messages: tuple[ChatMessage, ...], where: str, field: str = "messages") -> None:
    """Raise `TrainingFileInvalid` unless *messages* end with an answer and one of them is learnt."""
    if not any(message.role == "assistant" for message in messages):
        raise TrainingFileInvalid(f"{where}: {field} has no assistant turn, so there is nothing to learn")
    if not any(message.is_learnt for message in messages):
        raise TrainingFileInvalid(f"{where}: {field} has no assistant turn with weight 1, so there is nothing to learn")
    last = len(messages) - 1
    if messages[last].role != "assistant":
        raise TrainingFileInvalid(
            f"{where}: {field}[{last}].role is {messages[last].role}; the last message must be an assistant answer"
        )


def check_parallel(parallel: object, turns: Mapping[str, tuple[ChatMessage, ...]], where: str) -> None:
    """Raise `TrainingFileInvalid` if *parallel* is false and a message has several calls; *turns* has them by field."""
    if not isinstance(parallel, bool):
        raise TrainingFileInvalid(f"{where}: parallel_tool_calls must be true or false, not {shown(parallel)}")
    for field, messages in turns.items():
        several = next((at for at, message in enumerate(messages) if len(message.tool_calls) > 1), None)
        if not parallel and several is not None:
            raise TrainingFileInvalid(
                f"{where}: {field}[{several}].tool_calls has several calls, and parallel_tool_calls is false"
            )
