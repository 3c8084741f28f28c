"""A training line of any format as texts: the prompt, the answers that are learnt, and all of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from registry.contracts.preference_lines import PairRow, RatedRow
from registry.contracts.prompt_lines import PromptRow
from registry.contracts.training_file import TrainingRow
from registry.contracts.training_formats import TrainingLine


@dataclass(frozen=True, slots=True, kw_only=True)
class RowView:
    """The texts of one training line."""

    line: int
    prompt: str
    """Everything before the last answer, the roles of its turns included."""
    answers: tuple[str, ...]
    """Answers that are learnt, of a pair the preferred ones; empty for a prompt."""
    rejected: str
    """The answer of a pair that is not preferred; empty for other lines."""
    turns: int
    """Messages, those of the system not counted; 2 for a prompt with its completion."""
    label: str | None
    """`good` or `bad` for a rated chat."""
    has_tools: bool
    pictures: int

    @property
    def text(self) -> str:
        """Return all texts of the line."""
        return "\n".join((self.prompt, *self.answers, self.rejected)).strip()

    @property
    def last_answer(self) -> str:
        """Return the answer that the line ends with."""
        return self.answers[-1] if self.answers else ""


def view_of(row: TrainingLine) -> RowView:
    """Return the texts of *row*."""
    first = row.chats[0]
    answers = _answers(first)
    return RowView(
        line=row.line,
        prompt=_prompt(first, ends_with_prompt=not answers or isinstance(row, PromptRow)),
        answers=() if isinstance(row, PromptRow) else answers,
        rejected="\n".join(_answers(row.rejected)) if isinstance(row, PairRow) else "",
        turns=2 if first.text is not None else sum(message.role not in _SYSTEM for message in first.messages),
        label=("good" if row.is_desirable else "bad") if isinstance(row, RatedRow) else None,
        has_tools=any(chat.tools or chat.calls_tools for chat in row.chats),
        pictures=sum(len(chat.pictures) for chat in row.chats),
    )


_SYSTEM = ("system", "developer")


def _answers(chat: TrainingRow) -> tuple[str, ...]:
    if chat.text is not None:
        return (chat.text.completion,)
    return tuple(_written(chat, at) for at, message in enumerate(chat.messages) if message.is_learnt)


def _written(chat: TrainingRow, at: int) -> str:
    """Return what the assistant writes at a turn, with the calls of tools."""
    message = chat.messages[at]
    calls = [f"{call['function']['name']}({call['function']['arguments']})" for call in message.tool_calls]
    return "\n".join(filter(None, (message.content, *calls)))


def _prompt(chat: TrainingRow, *, ends_with_prompt: bool) -> str:
    if chat.text is not None:
        return chat.text.prompt
    return "\n".join(_turn_texts(chat, len(chat.messages) if ends_with_prompt else _last_learnt(chat)))


def _last_learnt(chat: TrainingRow) -> int:
    return max(at for at, message in enumerate(chat.messages) if message.is_learnt)


def _turn_texts(chat: TrainingRow, end: int) -> Iterator[str]:
    answered: Sequence[bool] = [message.is_learnt for message in chat.messages]
    for at in range(end):
        if not answered[at]:
            yield f"{chat.messages[at].role}: {chat.messages[at].content}"
