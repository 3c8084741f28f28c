"""Direct preference optimization: learn which of two answers people prefer, without a reward model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, SerializeAsAny, model_validator

from registry.contracts.fine_tune_spec import FineTuneSpec
from registry.contracts.hyperparameters import AUTO, AUTO_IS_NONE, Hyperparameters, MethodOptions
from registry.contracts.preference_lines import PAIR_FIELDS
from registry.contracts.training_formats import PAIRS, LineFormat, TrainingLine

DpoLoss = Literal["sigmoid", "ipo"]


class DpoHyperparameters(Hyperparameters):
    """The hyperparameters of every method, OpenAI's `beta`, and two of ours."""

    beta: Annotated[Annotated[float, Field(gt=0, le=2)] | None, AUTO_IS_NONE] = None
    loss_type: DpoLoss | None = None
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] | None = None

    @model_validator(mode="after")
    def _only_sigmoid_is_smoothed(self) -> Self:
        if self.loss_type == "ipo" and self.label_smoothing:
            raise ValueError("label_smoothing goes with the loss_type sigmoid; leave it out, or take that")
        return self

    def as_asked(self) -> dict[str, int | float | str]:
        """Return the values as the caller sent them."""
        return {"beta": AUTO, **super().as_asked()}


class DpoOptions(MethodOptions):
    """The fields of a request below `method.dpo`."""

    hyperparameters: SerializeAsAny[DpoHyperparameters] = DpoHyperparameters()


class DpoSpec(FineTuneSpec):
    """A job that trains on pairs; the reference is the base model."""

    recipe: ClassVar[str] = "dpo"
    trains_beside: ClassVar[bool] = True
    options_as: ClassVar[type[MethodOptions]] = DpoOptions
    formats: ClassVar[tuple[LineFormat[TrainingLine], ...]] = (PAIRS,)
    answers_per_row: ClassVar[int] = 2
    line_marks: ClassVar[Sequence[frozenset[str]]] = (frozenset(PAIR_FIELDS),)
    multiplied_rate: ClassVar[float] = 1e-4

    method: Literal["dpo"] = "dpo"
    beta: float = Field(default=0.1, gt=0, le=2)
    """How much a departure from the reference costs; 0.1 as in the paper's experiments."""
    loss_type: DpoLoss = "sigmoid"
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """Share of the labels that is taken to be wrong."""

    def passes_without_gradient(self) -> float:
        """Return those of the reference, whose logprobs are remembered over the epochs."""
        return 1.0 / self.n_epochs

    def hyperparameters(self) -> Mapping[str, Any]:
        """Return OpenAI's for this method, and ours beside them."""
        own = {"beta": self.beta, "loss_type": self.loss_type, "label_smoothing": self.label_smoothing}
        return {**super().hyperparameters(), **own}

    def rows_at_once(self) -> int:
        """Return the pairs whose answers go through the model at once."""
        return super().rows_at_once() // 2
