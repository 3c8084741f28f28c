"""PPO: sample outputs, and learn from them by a value function that is trained beside the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, SerializeAsAny

from registry.contracts.hyperparameters import MethodOptions
from registry.contracts.methods.sampling_options import SamplingHyperparameters, SamplingOptions, SamplingSpec


class PpoHyperparameters(SamplingHyperparameters):
    """The hyperparameters of PPO."""

    UNLESS_GIVEN: ClassVar[int] = 2

    group_size: Annotated[int, Field(ge=1, le=64)] | None = None
    gamma: Annotated[float, Field(gt=0, le=1)] | None = None
    gae_lambda: Annotated[float, Field(ge=0, le=1)] | None = None
    value_clip: Annotated[float, Field(gt=0, le=1000)] | None = None
    value_weight: Annotated[float, Field(gt=0, le=1000)] | None = None


class PpoOptions(SamplingOptions):
    """A grader and the hyperparameters of PPO."""

    hyperparameters: SerializeAsAny[PpoHyperparameters] = PpoHyperparameters()


class PpoSpec(SamplingSpec):
    """A job of PPO."""

    recipe: ClassVar[str] = "ppo"
    options_as: ClassVar[type[MethodOptions]] = PpoOptions
    default_group: ClassVar[int] = 1
    least_group: ClassVar[int] = 1
    default_iterations: ClassVar[int] = 2
    default_beta: ClassVar[float] = 0.05

    method: Literal["ppo"] = "ppo"
    gamma: float = Field(default=1.0, gt=0, le=1)
    """Discount of a later token's reward."""
    gae_lambda: float = Field(default=0.95, ge=0, le=1)
    value_clip: float = Field(default=0.2, gt=0)
    """How far a step may move a value."""
    value_weight: float = Field(default=0.1, gt=0)
    """Weight of the loss of the values."""

    def has_reference(self) -> bool:
        """Return True: the value head is left out of an adapter, but would be saved with whole weights."""
        return True

    def hyperparameters(self) -> Mapping[str, int | float | str]:
        """Return the hyperparameters that OpenAI's object shows, without those that OpenAI has for its method only."""
        shown: dict[str, Any] = {**super().hyperparameters()}
        shown.pop("reasoning_effort")
        return shown
