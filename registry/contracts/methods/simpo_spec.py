"""Simple preference optimization: learn a margin between the mean logprobs of two answers, without a reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, SerializeAsAny

from registry.contracts.fine_tune_spec import FineTuneSpec
from registry.contracts.hyperparameters import AUTO_IS_NONE, Hyperparameters, MethodOptions
from registry.contracts.preference_lines import PAIR_FIELDS
from registry.contracts.training_formats import PAIRS, LineFormat, TrainingLine


class SimpoHyperparameters(Hyperparameters):
    """The hyperparameters of every method, and those of SimPO."""

    beta: Annotated[Annotated[float, Field(gt=0, le=20)] | None, AUTO_IS_NONE] = None
    gamma: Annotated[float, Field(ge=0, le=20)] | None = None


class SimpoOptions(MethodOptions):
    """The fields of a request below `method.simpo`."""

    hyperparameters: SerializeAsAny[SimpoHyperparameters] = SimpoHyperparameters()


class SimpoSpec(FineTuneSpec):
    """A job that trains on pairs by the mean logprobs of their tokens."""

    recipe: ClassVar[str] = "simpo"
    trains_beside: ClassVar[bool] = True
    options_as: ClassVar[type[MethodOptions]] = SimpoOptions
    formats: ClassVar[tuple[LineFormat[TrainingLine], ...]] = (PAIRS,)
    answers_per_row: ClassVar[int] = 2
    line_marks: ClassVar[Sequence[frozenset[str]]] = (frozenset(PAIR_FIELDS),)
    multiplied_rate: ClassVar[float] = 1e-4

    method: Literal["simpo"] = "simpo"
    beta: float = Field(default=2.0, gt=0, le=20)
    """Scale of the reward; with gamma 1.0 as in the paper's table for Llama 3 Base."""
    gamma: float = Field(default=1.0, ge=0, le=20)
    """Margin that the rewards of the two answers should have."""

    def hyperparameters(self) -> Mapping[str, Any]:
        """Return the method's hyperparameters."""
        return {**super().hyperparameters(), "beta": self.beta, "gamma": self.gamma}

    def rows_at_once(self) -> int:
        """Return the pairs whose answers go through the model at once."""
        return super().rows_at_once() // 2
