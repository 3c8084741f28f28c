"""Kahneman-Tversky optimization: learn from single answers that people found good or bad."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, SerializeAsAny

from registry.contracts.fine_tune_spec import FineTuneSpec
from registry.contracts.hyperparameters import AUTO_IS_NONE, Hyperparameters, MethodOptions
from registry.contracts.training_formats import RATED_CHATS, LineFormat, TrainingLine


class KtoHyperparameters(Hyperparameters):
    """The hyperparameters of every method, and those of KTO."""

    beta: Annotated[Annotated[float, Field(gt=0, le=2)] | None, AUTO_IS_NONE] = None
    desirable_weight: Annotated[float, Field(gt=0, le=1000)] | None = None
    undesirable_weight: Annotated[float, Field(gt=0, le=1000)] | None = None


class KtoOptions(MethodOptions):
    """The fields of a request below `method.kto`."""

    hyperparameters: SerializeAsAny[KtoHyperparameters] = KtoHyperparameters()


class KtoSpec(FineTuneSpec):
    """A job that trains on rated chats; the reference is the base model."""

    recipe: ClassVar[str] = "kto"
    trains_beside: ClassVar[bool] = True
    options_as: ClassVar[type[MethodOptions]] = KtoOptions
    formats: ClassVar[tuple[LineFormat[TrainingLine], ...]] = (RATED_CHATS,)
    line_marks: ClassVar[Sequence[frozenset[str]]] = (frozenset({"messages", "label"}),)
    multiplied_rate: ClassVar[float] = 1e-4

    method: Literal["kto"] = "kto"
    beta: float = Field(default=0.1, gt=0, le=2)
    """How much a departure from the reference costs; 0.1 as in the paper."""
    desirable_weight: float = Field(default=1.0, gt=0)
    undesirable_weight: float = Field(default=1.0, gt=0)

    def passes_without_gradient(self) -> float:
        """Return those of answers to other prompts, and in the first epoch the reference of both."""
        return 1.0 + 2.0 / self.n_epochs

    def hyperparameters(self) -> Mapping[str, Any]:
        """Return the method's hyperparameters."""
        own = {"desirable_weight": self.desirable_weight, "undesirable_weight": self.undesirable_weight}
        return {**super().hyperparameters(), "beta": self.beta, **own}
