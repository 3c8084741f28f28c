"""The format of a training file: JSON lines of chats. Upload and training parse a line by the same function."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from registry.errors import TrainingFileInvalid

MINIMUM_ROWS: Final = 10
"""OpenAI's rule: a file needs at least 10 examples."""
ROLES: Final = ("system", "user", "assistant")
MESSAGE_FIELDS: Final = ("role", "content", "name", "weight")
LISTED_ERRORS: Final = 5

UTF8_BOM: Final = b"\xef\xbb\xbf"
UNSUPPORTED: Final = frozenset(
    {"tools", "parallel_tool_calls", "functions", "tool_calls", "function_call", "tool_call_id"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatMessage:
    """A turn of a chat."""

    role: str
    content: str
    name: str | None
    is_learnt: bool
    """True for an assistant turn whose weight is not 0: only such turns carry loss."""

    def as_template_input(self) -> dict[str, str]:
        """Return the message as chat templates take it."""
        name = {} if self.name is None else {"name": self.name}
        return {"role": self.role, "content": self.content} | name


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRow:
    """A chat to learn from."""

    line: int
    """Number of its line in the file, from 1."""
    messages: tuple[ChatMessage, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingFileSummary:
    """Counts over a valid file."""

    rows: int
    learnt_turns: int
    """Assistant turns that carry loss."""
    characters: int
    """Sum over all contents."""


def check_training_lines(lines: Iterable[bytes]) -> TrainingFileSummary:
    """Check the file of *lines* and count its contents; `TrainingFileInvalid` names lines and fields of faults."""
    rows = learnt_turns = characters = 0
    faults: list[str] = []
    for number, line in _filled_lines(lines):
        try:
            row = parse_training_line(line, number)
        except TrainingFileInvalid as exc:
            faults.append(str(exc))
            continue
        rows += 1
        learnt_turns += sum(message.is_learnt for message in row.messages)
        characters += sum(len(message.content) for message in row.messages)
    if faults:
        more = len(faults) - LISTED_ERRORS
        listed = faults[:LISTED_ERRORS] + ([f"and {more} more lines with a fault"] if more > 0 else [])
        raise TrainingFileInvalid("\n".join(listed))
    if not rows:
        raise TrainingFileInvalid("the file is empty; it needs one JSON object a line")
    if rows < MINIMUM_ROWS:
        raise TrainingFileInvalid(f"the file has {rows} examples; at least {MINIMUM_ROWS} are needed")
    return TrainingFileSummary(rows=rows, learnt_turns=learnt_turns, characters=characters)


def read_training_rows(lines: Iterable[bytes]) -> Iterator[TrainingRow]:
    """Yield the rows of *lines* in their order; `TrainingFileInvalid` at the first fault."""
    for number, line in _filled_lines(lines):
        yield parse_training_line(line, number)


def parse_training_line(line: bytes, number: int) -> TrainingRow:
    """Return the chat on line *number* (from 1); `TrainingFileInvalid` names line and field."""
    where = f"line {number}"
    fields = _json_object(line, where)
    for key in fields:
        if key in UNSUPPORTED:
            raise TrainingFileInvalid(f"{where}: {key} is not supported; a line holds messages of text only")
        if key != "messages":
            raise TrainingFileInvalid(f"{where}: unknown field {_shown(key)}; the only field of a line is messages")
    if "messages" not in fields:
        raise TrainingFileInvalid(f"{where}: messages is missing; a line is " + '{"messages": [...]}')
    entries = fields["messages"]
    if not isinstance(entries, list) or not entries:
        raise TrainingFileInvalid(f"{where}: messages must be a list with at least one message")
    messages = tuple(_parse_message(entry, f"{where}: messages[{at}]") for at, entry in enumerate(entries))
    _check_chat(messages, where)
    return TrainingRow(line=number, messages=messages)


def _filled_lines(lines: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield lines with their numbers from 1, without a byte order mark; blank lines are numbered but skipped."""
    for number, line in enumerate(lines, start=1):
        text = line.removeprefix(UTF8_BOM) if number == 1 else line
        if text.strip():
            yield number, text


def _json_object(line: bytes, where: str) -> Mapping[str, Any]:
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise TrainingFileInvalid(f"{where}: is not UTF-8 text (byte {exc.start + 1} of the line)") from exc
    try:
        fields = json.loads(text, object_pairs_hook=_unique_fields, parse_constant=_refuse_constant)
    except json.JSONDecodeError as exc:
        raise TrainingFileInvalid(f"{where}: is not valid JSON: {exc.msg} at column {exc.colno}") from exc
    except RecursionError as exc:
        raise TrainingFileInvalid(f"{where}: is not valid JSON: nested too deeply") from exc
    except ValueError as exc:
        raise TrainingFileInvalid(f"{where}: {exc}") from exc
    if not isinstance(fields, dict):
        raise TrainingFileInvalid(f"{where}: must be a JSON object, " + '{"messages": [...]}')
    return fields


def _unique_fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"field {_shown(twice)} appears twice in one object")
    return fields


def _refuse_constant(name: str) -> None:
    raise ValueError(f"is not valid JSON: {name} is not a JSON number")


def _parse_message(entry: object, where: str) -> ChatMessage:
    if not isinstance(entry, dict):
        raise TrainingFileInvalid(f"{where} must be an object with role and content")
    _check_fields(entry, where)
    role = entry["role"]
    if role not in ROLES:
        raise TrainingFileInvalid(f"{where}.role {_shown(role)} is unknown; roles are {', '.join(ROLES)}")
    name = entry.get("name")
    if name is not None:
        _check_text(name, f"{where}.name")
    return ChatMessage(
        role=role,
        content=_parse_content(entry["content"], role, f"{where}.content"),
        name=name,
        is_learnt=_parse_weight(entry, where) == 1 and role == "assistant",
    )


def _check_fields(entry: Mapping[str, Any], where: str) -> None:
    for key in entry:
        if key in UNSUPPORTED:
            raise TrainingFileInvalid(f"{where}.{key} is not supported; a message is text only")
        if key not in MESSAGE_FIELDS:
            known = ", ".join(MESSAGE_FIELDS)
            raise TrainingFileInvalid(f"{where}: unknown field {_shown(key)}; a message has {known}")
    for key in ("role", "content"):
        if key not in entry:
            raise TrainingFileInvalid(f"{where}.{key} is missing")


def _parse_content(content: object, role: str, where: str) -> str:
    text = _check_text(content, where)
    if not text.strip() and role != "system":
        needs = "an assistant answer needs text" if role == "assistant" else "a user message needs text"
        raise TrainingFileInvalid(f"{where} is empty; {needs}")
    return text


def _check_text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise TrainingFileInvalid(f"{where} must be a string, not {_json_kind(value)}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as exc:
        raise TrainingFileInvalid(f"{where} holds half of a surrogate pair, which is not text") from exc
    return value


def _parse_weight(entry: Mapping[str, Any], where: str) -> int:
    if "weight" not in entry:
        return 1
    weight = entry["weight"]
    if type(weight) is not int or weight not in (0, 1):
        raise TrainingFileInvalid(f"{where}.weight must be 0 or 1, not {_shown(weight)}")
    if entry["role"] != "assistant":
        raise TrainingFileInvalid(f"{where}.weight is for assistant messages only; this one is {entry['role']}")
    return weight


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


def _json_kind(value: object) -> str:
    names = {dict: "an object", list: "a list", bool: "a boolean", int: "a number", float: "a number"}
    return "null" if value is None else names[type(value)]


def _shown(value: object) -> str:
    """Return *value* as JSON, cut to a length that fits an error message."""
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
