"""Supervised fine-tuning: learn the answers of the chats, or the completions of the texts, in a file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import ClassVar, Literal

from registry.contracts.chat_template import read_chat_template
from registry.contracts.fine_tune_spec import FineTuneSpec
from registry.contracts.training_file import check_training_lines


class SupervisedSpec(FineTuneSpec):
    """A job that trains a LoRA adapter on the assistant's answers."""

    recipe: ClassVar[str] = "supervised"
    line_marks: ClassVar[Sequence[frozenset[str]]] = (frozenset({"messages"}), frozenset({"prompt", "completion"}))

    method: Literal["supervised"] = "supervised"

    @classmethod
    def count_rows(cls, lines: Iterable[bytes], base_folder: Path | None) -> int:
        """Return the number of examples; `TrainingFileInvalid` names line and field of the first faults."""
        template = None if base_folder is None else read_chat_template(base_folder)
        return check_training_lines(lines, template).rows
