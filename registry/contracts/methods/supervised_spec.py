"""Supervised fine-tuning: learn the answers of the chats, or the completions of the texts, in a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import SerializeAsAny

from registry.contracts.fine_tune_spec import FineTuneSpec
from registry.contracts.hyperparameters import AUTO_IS_NONE, Hyperparameters, MethodOptions
from registry.contracts.methods.packing_limits import read_why_not_packed
from registry.contracts.training_formats import CHATS_OR_TEXTS, LineFormat, TrainingLine
from registry.errors import WeightsRefused


class SupervisedHyperparameters(Hyperparameters):
    """The hyperparameters of every method, and how rows are packed."""

    packing: Annotated[bool | None, AUTO_IS_NONE] = None


class SupervisedOptions(MethodOptions):
    """The fields of a request below `method.supervised`."""

    hyperparameters: SerializeAsAny[SupervisedHyperparameters] = SupervisedHyperparameters()


class SupervisedSpec(FineTuneSpec):
    """A job that trains a LoRA adapter on the assistant's answers."""

    recipe: ClassVar[str] = "supervised"
    trains_beside: ClassVar[bool] = True
    options_as: ClassVar[type[MethodOptions]] = SupervisedOptions
    formats: ClassVar[tuple[LineFormat[TrainingLine], ...]] = CHATS_OR_TEXTS
    line_marks: ClassVar[Sequence[frozenset[str]]] = (frozenset({"messages"}), frozenset({"prompt", "completion"}))

    method: Literal["supervised"] = "supervised"
    packing: bool | None = None
    """Whether several rows lie in one sequence; None packs, on CPUs, the passes that it makes cheaper."""

    def packs_rows(self) -> bool | None:
        """Return what was asked for."""
        return self.packing

    def check_base(self, folder: Path) -> None:
        """Raise `WeightsRefused` if packing was asked for and the base model cannot keep packed rows apart."""
        if self.packing and (why := read_why_not_packed(folder)) is not None:
            raise WeightsRefused(f"packing: {why}; leave packing out")
