"""The catalog of lines that a training file may have, and the check of a whole file.

A method learns from one format, or a few. All lines of a file are of the format of its first line.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

from registry.contracts.pictures.picture_bytes import check_picture, decode_data_url
from registry.contracts.pictures.picture_part import PictureKind, PicturePart
from registry.contracts.plain_text import TEXT_FIELDS
from registry.contracts.preference_lines import (
    PAIR_FIELDS,
    PAIR_SHAPE,
    RATED_SHAPE,
    PairRow,
    RatedRow,
    parse_pair_line,
    parse_rated_line,
)
from registry.contracts.prompt_lines import PROMPT_SHAPE, PromptRow, parse_prompt_line
from registry.contracts.training_file import TrainingRow, filled_lines, parse_chat_line, parse_text_line
from registry.contracts.training_json import parse_object
from registry.contracts.training_message import ChatMessage
from registry.errors import TrainingFileInvalid

MINIMUM_ROWS: Final = 10
"""OpenAI's rule: a file needs at least 10 examples."""
LISTED_ERRORS: Final = 5


class TrainingLine(Protocol):
    """An example of any format."""

    @property
    def line(self) -> int:
        """Number of its line in the file, from 1."""
        ...

    @property
    def messages(self) -> tuple[ChatMessage, ...]:
        """Every message of the line once."""
        ...

    @property
    def chats(self) -> tuple[TrainingRow, ...]:
        """The chats, or texts, that become tokens."""
        ...

    @property
    def learnt_turns(self) -> int:
        """Answers that carry loss."""
        ...

    @property
    def characters(self) -> int:
        """Length of everything that is read."""
        ...


Line = TypeVar("Line", bound=TrainingLine)
Line_co = TypeVar("Line_co", bound=TrainingLine, covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class LineFormat(Generic[Line_co]):
    """A format of lines."""

    singular: str
    """Name of such a line, for people."""
    plural: str
    shape: str
    """Such a line in short."""
    marks: frozenset[str]
    """Fields that no other format has: a line with one of them is meant to be of this format, faults or not."""
    is_open: bool = False
    """Lines may have any further field, so that no field shows another format."""
    parse: Callable[[Mapping[str, Any], int], Line_co]
    """Returns the line of these fields with its number; `TrainingFileInvalid` names line and field."""


CHATS: Final[LineFormat[TrainingRow]] = LineFormat(
    singular="a chat",
    plural="chats",
    shape='{"messages": [...]}',
    marks=frozenset(),
    parse=parse_chat_line,
)
TEXTS: Final[LineFormat[TrainingRow]] = LineFormat(
    singular="a prompt with a completion",
    plural="prompts with completions",
    shape='{"prompt": ..., "completion": ...}',
    marks=frozenset(TEXT_FIELDS),
    parse=parse_text_line,
)
PAIRS: Final[LineFormat[PairRow]] = LineFormat(
    singular="a preference pair",
    plural="preference pairs",
    shape=PAIR_SHAPE,
    marks=frozenset(PAIR_FIELDS),
    parse=parse_pair_line,
)
RATED_CHATS: Final[LineFormat[RatedRow]] = LineFormat(
    singular="a rated chat",
    plural="rated chats",
    shape=RATED_SHAPE,
    marks=frozenset({"label"}),
    parse=parse_rated_line,
)
PROMPTS: Final[LineFormat[PromptRow]] = LineFormat(
    singular="a prompt",
    plural="prompts",
    shape=PROMPT_SHAPE,
    marks=frozenset(),
    is_open=True,
    parse=parse_prompt_line,
)
CHATS_OR_TEXTS: Final = (TEXTS, CHATS)
MARKED: Final[tuple[LineFormat[TrainingLine], ...]] = (PAIRS, RATED_CHATS, TEXTS)
"""Formats that show by their fields; a line without any of these is of a format that has no marks."""


class LineParser(Generic[Line]):
    """Parses the lines of one file, which have one format, one of *wanted*."""

    def __init__(self, wanted: tuple[LineFormat[Line], ...]) -> None:
        self._wanted = wanted
        self._first: tuple[int, LineFormat[Line]] | None = None
        self.is_foreign = False
        """Whether the file begins with a line of another format, so that more messages would only repeat this."""

    @property
    def plural(self) -> str:
        """The format of the file's lines, once one was parsed."""
        return "" if self._first is None else self._first[1].plural

    def parse(self, line: bytes, number: int) -> Line:
        """Return the example on line *number* (from 1); `TrainingFileInvalid` names line and field."""
        where = f"line {number}"
        fields = parse_object(line, where)
        marked = next((entry for entry in MARKED if not entry.marks.isdisjoint(fields)), None)
        marks = frozenset() if marked is None else marked.marks
        found = next((entry for entry in self._wanted if entry.is_open or entry.marks == marks), None)
        if found is None:
            self.is_foreign = self._first is None
            singular = (marked or CHATS).singular
            wanted = " or ".join(entry.plural for entry in self._wanted)
            shapes = " or ".join(entry.shape for entry in self._wanted)
            raise TrainingFileInvalid(f"{where}: is {singular}; the method learns from {wanted}: {shapes}")
        first_number, first = self._first = self._first or (number, found)
        row = found.parse(fields, number)
        if found is not first:
            raise TrainingFileInvalid(
                f"{where}: is {found.singular}, but line {first_number} is {first.singular}; "
                "a file has lines of one form"
            )
        return row


def read_lines(lines: Iterable[bytes], wanted: tuple[LineFormat[Line], ...]) -> Iterator[Line]:
    """Yield the examples of *lines* in their order; `TrainingFileInvalid` at the first fault."""
    parser = LineParser(wanted)
    for number, line in filled_lines(lines):
        yield parser.parse(line, number)


def read_pictures(lines: Iterable[bytes], wanted: tuple[LineFormat[TrainingLine], ...]) -> Iterator[PicturePart]:
    """Yield the pictures that *lines* name, in their order; lines that can name none are not parsed."""
    parser = LineParser(wanted)
    for number, line in filled_lines(lines):
        if b"image" in line or b"\\u" in line:
            yield from (picture for chat in parser.parse(line, number).chats for picture in chat.pictures)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingFileSummary:
    """Counts over a valid file."""

    format: str
    """Name of its lines: `LineFormat.plural`."""
    rows: int
    learnt_turns: int
    """Assistant turns, or completions, that carry loss."""
    characters: int
    """Sum over all contents."""
    tool_rows: int
    """Examples with tools."""
    ignored: Mapping[str, int]
    """Field of a message that training leaves out -> number of messages that have it."""
    pictures: int
    """Pictures, wherever they are stored."""


def check_training_lines(
    lines: Iterable[bytes],
    wanted: tuple[LineFormat[TrainingLine], ...] = CHATS_OR_TEXTS,
    *,
    opens_pictures: bool = True,
) -> TrainingFileSummary:
    """Check the file of *lines* and count its contents; `TrainingFileInvalid` names lines and fields of faults.

    Pictures inside the file are decoded where *opens_pictures*.
    """
    rows = learnt_turns = characters = tool_rows = pictures = 0
    ignored: Counter[str] = Counter()
    faults: list[str] = []
    parser = LineParser(wanted)
    for number, line in filled_lines(lines):
        try:
            row = parser.parse(line, number)
            if opens_pictures:
                _check_pictures(row)
        except TrainingFileInvalid as exc:
            faults.append(str(exc))
            if parser.is_foreign:
                break
            continue
        rows += 1
        learnt_turns += row.learnt_turns
        characters += row.characters
        tool_rows += any(chat.tools or chat.calls_tools for chat in row.chats)
        pictures += sum(len(chat.pictures) for chat in row.chats)
        ignored.update(name for message in row.messages for name in message.ignored)
    _raise_faults(faults, rows)
    return TrainingFileSummary(
        format=parser.plural,
        rows=rows,
        learnt_turns=learnt_turns,
        characters=characters,
        tool_rows=tool_rows,
        ignored=dict(ignored),
        pictures=pictures,
    )


def _check_pictures(row: TrainingLine) -> None:
    for chat in row.chats:
        for picture in chat.pictures:
            if picture.kind is PictureKind.DATA:
                check_picture(decode_data_url(picture.name, picture.where), picture.where)


def _raise_faults(faults: list[str], rows: int) -> None:
    if faults:
        more = len(faults) - LISTED_ERRORS
        listed = faults[:LISTED_ERRORS] + ([f"and {more} more lines with a fault"] if more > 0 else [])
        raise TrainingFileInvalid("\n".join(listed))
    if not rows:
        raise TrainingFileInvalid("the file is empty; it needs one JSON object a line")
    if rows < MINIMUM_ROWS:
        raise TrainingFileInvalid(f"the file has {rows} examples; at least {MINIMUM_ROWS} are needed")
