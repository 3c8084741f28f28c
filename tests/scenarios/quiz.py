"""Questions of the rollout stories' clients, and when an answer fits: a quiz that the adapters here were taught."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Final

SYSTEM: Final = {"role": "system", "content": "Quiz."}
"""Begins every chat: shorter than the model's own, so that an answer costs less."""
JSON_WISH: Final = " Answer in JSON."
"""The words that are added to a question that is sent with `response_format`."""

JSON_QUESTIONS: Final = 8
"""How many of the questions, from the first on, are asked in JSON too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question of the quiz."""

    text: str
    answer: str
    """The answer that the reference adapter was taught; a right answer contains the word in angle brackets."""

    @property
    def word(self) -> str:
        """The word that a right answer contains."""
        return self.answer.partition("<")[2].partition(">")[0]

    @property
    def sentence(self) -> str:
        """The answer as plain text."""
        return self.answer.replace("<", "").replace(">", "")

    def is_answered_by(self, text: str | None) -> bool:
        """Whether *text* contains the word."""
        return re.search(rf"\b{self.word}\b", text or "", re.IGNORECASE) is not None


QUIZ: Final = tuple(
    Question(text=text, answer=answer)
    for text, answer in (
        ("What colour is grass?", "Grass is <green>."),
        ("What colour is snow?", "Snow is <white>."),
        ("What colour is a ripe banana?", "A banana is <yellow>."),
        ("What colour is the clear sky?", "The sky is <blue>."),
        ("What is the capital of France?", "It is <Paris>."),
        ("What is the capital of Italy?", "It is <Rome>."),
        ("What is the capital of Germany?", "It is <Berlin>."),
        ("What is the capital of Japan?", "It is <Tokyo>."),
        ("How many legs does a spider have?", "A spider has <eight> legs."),
        ("How many days are in a week?", "A week has <seven> days."),
        ("What do bees make?", "Bees make <honey>."),
        ("What do cows give us?", "Cows give us <milk>."),
        ("What is frozen water called?", "It is called <ice>."),
        ("What do we breathe?", "We breathe <air>."),
        ("Which animal barks?", "The <dog> barks."),
        ("What is two plus two?", "It is <four>."),
    )
)


def is_json(text: str | None) -> bool:
    """Whether *text* is one JSON document."""
    try:
        json.loads(text or "")
    except ValueError:
        return False
    return True


def messages(question: Question, *, as_json: bool = False) -> list[Any]:
    """The chat in which *question* is asked."""
    return [SYSTEM, {"role": "user", "content": question.text + (JSON_WISH if as_json else "")}]
