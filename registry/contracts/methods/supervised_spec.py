"""Supervised fine-tuning: learn the answers of the chats, or the completions of the texts, in a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from registry.contracts.fine_tune_spec import FineTuneSpec
from registry.contracts.training_formats import CHATS_OR_TEXTS, LineFormat, TrainingLine


class SupervisedSpec(FineTuneSpec):
    """A job that trains a LoRA adapter on the assistant's answers."""

    recipe: ClassVar[str] = "supervised"
    formats: ClassVar[tuple[LineFormat[TrainingLine], ...]] = CHATS_OR_TEXTS
    line_marks: ClassVar[Sequence[frozenset[str]]] = (frozenset({"messages"}), frozenset({"prompt", "completion"}))

    method: Literal["supervised"] = "supervised"
