"""Reads the calls of an answer while it is written; the text may come in pieces of any length."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final
from uuid import uuid4

from conversations.call_forms import CallForm

_ID_DIGITS: Final = 24
_SHORT_ID_DIGITS: Final = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPiece:
    """The new part of a call: its id and its name come first, then pieces of its arguments."""

    index: int
    """Place among the calls of the answer."""
    id: str | None = None
    name: str | None = None
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class ReadPiece:
    """Text beside calls, which comes before them, and what is new of the calls."""

    content: str = ""
    calls: tuple[CallPiece, ...] = ()


class _Place(Enum):
    TEXT = auto()
    NAME = auto()
    ARGUMENTS = auto()
    AFTER = auto()


@dataclass(slots=True)
class JsonEnd:
    """Finds where a JSON object or array ends."""

    depth: int = 0
    in_string: bool = False
    is_escaped: bool = False

    def length(self, text: str) -> int | None:
        """Return how many characters of *text* belong to the value, None if it goes on behind it."""
        for at, character in enumerate(text):
            if self.is_escaped:
                self.is_escaped = False
            elif self.in_string:
                self.is_escaped, self.in_string = character == "\\", character != '"'
            elif character == '"':
                self.in_string = True
            elif character in "{[":
                self.depth += 1
            elif character in "}]":
                self.depth -= 1
                if not self.depth:
                    return at + 1
        return None


@dataclass(slots=True)
class CallReader:
    """The state of one answer. White space between text and a call belongs to neither."""

    form: CallForm
    finished: int = 0
    """Calls whose arguments are whole."""
    _held: str = ""
    _place: _Place = _Place.TEXT
    _begun: int = 0
    _has_content: bool = False
    _end: JsonEnd = field(default_factory=JsonEnd)
    _news: list[CallPiece] = field(default_factory=list)

    def push(self, text: str) -> ReadPiece:
        """Return what *text* completes."""
        self._held += text
        content = self._read_content() if self._place is _Place.TEXT else ""
        while self._advance():
            pass
        news, self._news = tuple(self._news), []
        return ReadPiece(content, news)

    def flush(self) -> str:
        """Return the text that was held back, when no more comes; a call without a whole name is dropped."""
        held, self._held = self._held, ""
        return held if self._place is _Place.TEXT else ""

    def _read_content(self) -> str:
        form, held = self.form, self._held
        begins = held.find(form.begins) if form.may_follow_text else (0 if held.startswith(form.begins) else -1)
        if begins >= 0 and not (self._has_content and not form.may_follow_text):
            self._held, self._place = held[begins + len(form.begins) :], _Place.NAME
            return held[:begins].rstrip()
        content = held[: len(held) - self._undecided(held)].rstrip()
        self._held = held[len(content) :]
        self._has_content = self._has_content or bool(content)
        return content

    def _undecided(self, text: str) -> int:
        """Return the length of the longest end of *text* that may turn out to begin a call."""
        begins = self.form.begins
        if not self.form.may_follow_text:
            return len(text) if not self._has_content and begins.startswith(text) else 0
        longest = min(len(text), len(begins) - 1)
        return next((size for size in range(longest, 0, -1) if text.endswith(begins[:size])), 0)

    def _advance(self) -> bool:
        """Read one part of a call; return whether more may be read."""
        if self._place is _Place.NAME:
            return self._read_name()
        if self._place is _Place.ARGUMENTS:
            return self._read_arguments()
        return self._place is _Place.AFTER and self._read_border()

    def _read_name(self) -> bool:
        form = self.form
        # A decoder of SentencePiece leaves out the space of the first word.
        head, before = self._held.lstrip(), form.before_name.lstrip()
        name, found, rest = head.removeprefix(before).partition(form.before_arguments)
        if not found:
            return False
        digits = uuid4().hex
        id_ = digits[:_SHORT_ID_DIGITS] if form.has_short_ids else f"call_{digits[:_ID_DIGITS]}"
        self._news.append(CallPiece(index=self._begun, id=id_, name=name))
        self._held, self._place, self._end = rest, _Place.ARGUMENTS, JsonEnd()
        self._begun += 1
        return True

    def _read_arguments(self) -> bool:
        length = self._end.length(self._held)
        piece = self._held if length is None else self._held[:length]
        self._held = self._held[len(piece) :]
        if piece:
            self._news.append(CallPiece(index=self._begun - 1, arguments=piece))
        if length is None:
            return False
        self.finished += 1
        self._place = _Place.AFTER
        return True

    def _read_border(self) -> bool:
        if self.form.between is None:
            return False
        border = self.form.after_arguments + self.form.between
        if not self._held.startswith(border):
            return False
        self._held, self._place = self._held[len(border) :], _Place.NAME
        return True
