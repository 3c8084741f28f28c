"""Where an assistant's answer begins and ends in a chat that the base model's chat template has rendered."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any, Protocol

from trainer.errors import JobFailed, RowUnfit


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateChat:
    """A chat as chat templates take it."""

    line: int
    messages: Sequence[Mapping[str, Any]]
    tools: Sequence[Mapping[str, Any]] = ()
    places: Sequence[int] = ()
    """For each message of a row the place of that which has it here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedAnswer:
    """An assistant turn in a rendered chat."""

    text: str
    opened: str
    """The beginning of *text*, up to the answer."""
    closed: str
    """The beginning of *text*, up to the end of the answer, end token included."""


class Render(Protocol):
    """Renders a chat as text."""

    def __call__(self, chat: TemplateChat, *, opens_answer: bool = False) -> str:
        """Return *chat* as text, ready for an answer with *opens_answer*; `RowUnfit` if the template refuses it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerFinder:
    """Finds answers in rendered chats by rendering parts and variants of the same chat."""

    render: Render
    as_content: Callable[[Any], Any]
    """Makes of a text the content of a message as the template takes it."""
    end_texts: Sequence[str]
    """The end tokens as text."""

    def find(self, chat: TemplateChat, text: str, at: int) -> RenderedAnswer:
        """Return turn *at* of *chat* in *text*, the whole chat, or in the chat up to the turn where that differs."""
        try:
            opened = self.render(replace(chat, messages=chat.messages[:at]), opens_answer=True) if at else None
            closed = self.render(replace(chat, messages=chat.messages[: at + 1]))
        except JobFailed:  # a part may be refused where the whole is not, such as a chat without a user's turn
            opened = None
        if opened is None:
            return self._compare(chat, text, at)
        if text.startswith(opened) and text.startswith(closed):
            return RenderedAnswer(text=text, opened=opened, closed=closed)
        if closed.startswith(opened):
            return RenderedAnswer(text=closed, opened=opened, closed=closed)
        # The answer changes how the turns before it are rendered, and the engine renders them without the answer.
        found = self._compare(replace(chat, messages=chat.messages[: at + 1]), closed, at)
        whole = opened + found.closed[len(found.opened) :]
        return RenderedAnswer(text=whole, opened=opened, closed=whole)

    def _compare(self, chat: TemplateChat, text: str, at: int) -> RenderedAnswer:
        """Return turn *at*, found by comparison with the same chat that has another text there."""
        content = str(chat.messages[at]["content"])
        other = next(letter for letter in map(chr, range(0xE000, 0xF900)) if letter not in content)
        messages = [*chat.messages]
        messages[at] = {"role": "assistant", "content": self.as_content(other)}
        changed = self.render(replace(chat, messages=messages))
        begin = shared(text, changed)
        end = len(text) - shared(reversed(text[begin:]), reversed(changed[begin:]))
        rest = text[end:]
        blank = len(rest) - len(rest.lstrip())
        ends = [mark for mark in self.end_texts if mark and rest[blank:].startswith(mark)]
        if not ends:
            raise without_end(chat, at)
        return RenderedAnswer(text=text, opened=text[:begin], closed=text[: end + blank + len(max(ends, key=len))])


def without_end(chat: TemplateChat, at: int) -> RowUnfit:
    """Return the refusal of turn *at* of *chat*, whose answer no end token follows."""
    why = "the base model's chat template puts no end token after an answer"
    return RowUnfit("template_not_trainable", f"line {chat.line}: messages[{chat.places.index(at)}]: {why}")


def shared(one: Iterable[int | str], other: Iterable[int | str]) -> int:
    """Count the tokens, or letters, that both begin with; a token that spans the border belongs to the later text."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
