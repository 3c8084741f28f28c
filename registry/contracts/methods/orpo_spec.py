"""Odds ratio preference optimization: learn the preferred answers, and to prefer them, without a reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, SerializeAsAny

from registry.contracts.fine_tune_spec import FineTuneSpec
from registry.contracts.hyperparameters import AUTO_IS_NONE, Hyperparameters, MethodOptions
from registry.contracts.preference_lines import PAIR_FIELDS
from registry.contracts.training_formats import PAIRS, LineFormat, TrainingLine


class OrpoHyperparameters(Hyperparameters):
    """The hyperparameters of every method, and the weight of the odds ratio."""

    beta: Annotated[Annotated[float, Field(gt=0, le=2)] | None, AUTO_IS_NONE] = None


class OrpoOptions(MethodOptions):
    """The fields of a request below `method.orpo`."""

    hyperparameters: SerializeAsAny[OrpoHyperparameters] = OrpoHyperparameters()


class OrpoSpec(FineTuneSpec):
    """A job that trains on pairs in one stage, as supervised fine-tuning with a penalty."""

    recipe: ClassVar[str] = "orpo"
    trains_beside: ClassVar[bool] = True
    options_as: ClassVar[type[MethodOptions]] = OrpoOptions
    formats: ClassVar[tuple[LineFormat[TrainingLine], ...]] = (PAIRS,)
    answers_per_row: ClassVar[int] = 2
    line_marks: ClassVar[Sequence[frozenset[str]]] = (frozenset(PAIR_FIELDS),)
    multiplied_rate: ClassVar[float] = 3e-4

    method: Literal["orpo"] = "orpo"
    beta: float = Field(default=0.1, gt=0, le=2)
    """Weight of the odds ratio beside the supervised loss, lambda in the paper; 0.1 as for its Mistral models."""

    def hyperparameters(self) -> Mapping[str, Any]:
        """Return the method's hyperparameters."""
        return {**super().hyperparameters(), "beta": self.beta}

    def rows_at_once(self) -> int:
        """Return the pairs whose answers go through the model at once."""
        return super().rows_at_once() // 2
