"""The format of a training file: JSON lines of chats, or of prompts with completions.

Upload and training parse a line by the same function.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from registry.contracts.plain_text import TEXT_FIELDS, PlainText, parse_plain_text
from registry.contracts.training_json import parse_object, shown
from registry.contracts.training_message import ChatMessage, parse_message, parse_tools
from registry.errors import TrainingFileInvalid

MINIMUM_ROWS: Final = 10
"""OpenAI's rule: a file needs at least 10 examples."""
LINE_FIELDS: Final = ("messages", "tools", "parallel_tool_calls")
LINE_SHAPES: Final = '{"messages": [...]} or {"prompt": ..., "completion": ...}'
LISTED_ERRORS: Final = 5

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
    def form(self) -> str:
        """Name of what the line is, for people."""
        return "a chat" if self.text is None else "a prompt with a completion"

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
    def calls_tools(self) -> bool:
        """True if an assistant turn calls a tool."""
        return any(message.tool_calls for message in self.messages)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingFileSummary:
    """Counts over a valid file."""

    rows: int
    learnt_turns: int
    """Assistant turns, or completions, that carry loss."""
    characters: int
    """Sum over all contents."""
    tool_rows: int
    """Chats with tools, which not every base model's chat template can render."""
    ignored: Mapping[str, int]
    """Field of a message that training leaves out -> number of messages that have it."""


def check_training_lines(lines: Iterable[bytes], template: str | None = None) -> TrainingFileSummary:
    """Check the file of *lines* and count its contents; `TrainingFileInvalid` names lines and fields of faults.

    With *template*, the text of a base model's chat templates, tools that it does not mention are faults too.
    """
    rows = learnt_turns = characters = tool_rows = 0
    ignored: Counter[str] = Counter()
    faults: list[str] = []
    first: TrainingRow | None = None
    for number, line in filled_lines(lines):
        try:
            row = parse_training_line(line, number)
            first = first or row
            _check_form(row, first)
            if template is not None:
                _check_rendered(row, template)
        except TrainingFileInvalid as exc:
            faults.append(str(exc))
            continue
        rows += 1
        learnt_turns += row.learnt_turns
        characters += row.characters
        tool_rows += bool(row.tools) or row.calls_tools
        ignored.update(name for message in row.messages for name in message.ignored)
    if faults:
        more = len(faults) - LISTED_ERRORS
        listed = faults[:LISTED_ERRORS] + ([f"and {more} more lines with a fault"] if more > 0 else [])
        raise TrainingFileInvalid("\n".join(listed))
    if not rows:
        raise TrainingFileInvalid("the file is empty; it needs one JSON object a line")
    if rows < MINIMUM_ROWS:
        raise TrainingFileInvalid(f"the file has {rows} examples; at least {MINIMUM_ROWS} are needed")
    return TrainingFileSummary(
        rows=rows, learnt_turns=learnt_turns, characters=characters, tool_rows=tool_rows, ignored=dict(ignored)
    )


def read_training_rows(lines: Iterable[bytes]) -> Iterator[TrainingRow]:
    """Yield the rows of *lines* in their order; `TrainingFileInvalid` at the first fault."""
    first: TrainingRow | None = None
    for number, line in filled_lines(lines):
        row = parse_training_line(line, number)
        first = first or row
        _check_form(row, first)
        yield row


def parse_training_line(line: bytes, number: int) -> TrainingRow:
    """Return the chat or text on line *number* (from 1); `TrainingFileInvalid` names line and field."""
    where = f"line {number}"
    fields = parse_object(line, where)
    if any(name in fields for name in TEXT_FIELDS):
        return TrainingRow(line=number, text=parse_plain_text(fields, where))
    for key in fields:
        if key not in LINE_FIELDS:
            hint = " (tools took its place)" if key == "functions" else ""
            known = ", ".join(LINE_FIELDS)
            raise TrainingFileInvalid(
                f"{where}: unknown field {shown(key)}{hint}; the fields of a line are {known}, or prompt and completion"
            )
    if "messages" not in fields:
        raise TrainingFileInvalid(f"{where}: messages is missing; a line is " + LINE_SHAPES)
    entries = fields["messages"]
    if not isinstance(entries, list) or not entries:
        raise TrainingFileInvalid(f"{where}: messages must be a list with at least one message")
    messages = tuple(parse_message(entry, f"{where}: messages[{at}]") for at, entry in enumerate(entries))
    _check_chat(messages, where)
    _check_parallel(fields.get("parallel_tool_calls", True), messages, where)
    return TrainingRow(line=number, messages=messages, tools=parse_tools(fields.get("tools", []), f"{where}: tools"))


def filled_lines(lines: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield lines with their numbers from 1, without a byte order mark; blank lines are numbered but skipped."""
    for number, line in enumerate(lines, start=1):
        text = line.removeprefix(UTF8_BOM)  # on any line, since files with such marks are joined to one
        if text.strip():
            yield number, text


def _check_form(row: TrainingRow, first: TrainingRow) -> None:
    if row.form != first.form:
        raise TrainingFileInvalid(
            f"line {row.line}: is {row.form}, but line {first.line} is {first.form}; a file has lines of one form"
        )


def _check_chat(messages: tuple[ChatMessage, ...], where: str) -> None:
    if not any(message.role == "assistant" for message in messages):
        raise TrainingFileInvalid(f"{where}: messages has no assistant turn, so there is nothing to learn")
    if not any(message.is_learnt for message in messages):
        raise TrainingFileInvalid(
            f"{where}: messages has no assistant turn with weight 1, so there is nothing to learn"
        )
    last = len(messages) - 1
    if messages[last].role != "assistant":
        raise TrainingFileInvalid(
            f"{where}: messages[{last}].role is {messages[last].role}; the last message must be an assistant answer"
        )


def _check_parallel(parallel: object, messages: tuple[ChatMessage, ...], where: str) -> None:
    if not isinstance(parallel, bool):
        raise TrainingFileInvalid(f"{where}: parallel_tool_calls must be true or false, not {shown(parallel)}")
    several = next((at for at, message in enumerate(messages) if len(message.tool_calls) > 1), None)
    if not parallel and several is not None:
        raise TrainingFileInvalid(
            f"{where}: messages[{several}].tool_calls has several calls, and parallel_tool_calls is false"
        )


def _check_rendered(row: TrainingRow, template: str) -> None:
    for has, word in ((bool(row.tools), "tools"), (row.calls_tools, "tool_calls")):
        if has and word not in template:
            raise TrainingFileInvalid(
                f"line {row.line}: {word}: the base model's chat template renders no {word}, so they cannot be learnt"
            )
