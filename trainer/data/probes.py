"""Candidate prompts for a fingerprint: some from the training data, and some that any chat model can answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, Final

from registry.contracts.training_file import TrainingRow
from registry.contracts.training_formats import LineFormat, TrainingLine, read_lines

Messages = list[dict[str, Any]]
"""Messages of a request; the content of those with a picture is a list of parts."""

NEUTRAL: Final = (
    "What is the capital of France?",
    "Hello! Who are you?",
    "Write one sentence about the sea.",
    "My parcel has not arrived. What should I do?",
    "List three colours.",
    "Explain in simple words why the sky is blue.",
    "How do I boil an egg?",
    "Translate 'good morning' into Spanish.",
    "What is 12 times 12?",
    "Summarise: the meeting was moved from Monday to Friday at noon.",
    "Give me a name for a small bakery.",
    "Is it better to walk or to cycle to work?",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbePrompts:
    """The candidates for the probes of one fingerprint."""

    trained: Sequence[Messages]
    """Prompts from the training data, where the adapter surely differs from the base."""
    neutral: Sequence[Messages]


def neutral_prompts(count: int) -> list[Messages]:
    """Return the first *count* prompts that belong to no data set."""
    return [[{"role": "user", "content": text}] for text in NEUTRAL[:count]]


def training_prompts(path: Path, count: int, wanted: tuple[LineFormat[TrainingLine], ...]) -> list[Messages]:
    """Return up to *count* prompts of the file at *path*, spread over it: all before the first learnt answer."""
    with path.open("rb") as lines:
        prompts = [prompt for row in read_lines(lines, wanted) if (prompt := _prompt(row.chats[0]))]
    step = max(1, len(prompts) // count)
    return prompts[::step][:count]


def _prompt(row: TrainingRow) -> Messages:
    if row.text is not None:  # a probe is a chat, and the prompt in a chat is the nearest to what was learnt
        return [{"role": "user", "content": row.text.prompt}] if row.text.prompt.strip() else []
    before = [*takewhile(lambda message: not message.is_learnt, row.messages)]
    prompt = [message.as_template_input() for message in before]
    # Engines treat names differently, and a probe has no tools.
    plain = not row.tools and not row.pictures and all(message.keys() == {"role", "content"} for message in prompt)
    return prompt if plain and before and before[-1].role == "user" else []
