"""Reinforcement fine-tuning: sample outputs in groups, and make those likelier that the grader prefers in a group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import SerializeAsAny, model_validator

from registry.contracts.hyperparameters import MethodOptions
from registry.contracts.methods.sampling_options import SamplingHyperparameters, SamplingOptions, SamplingSpec

LossType = Literal["dapo", "grpo", "dr_grpo"]
DEFAULT_BETAS: Mapping[str, float] = {"grpo": 0.04, "rloo": 0.05}


class ReinforcementHyperparameters(SamplingHyperparameters):
    """The hyperparameters of GRPO and RLOO."""

    algorithm: Literal["grpo", "rloo"] | None = None
    loss_type: LossType | None = None
    scale_rewards: Literal["group", "none"] | None = None

    @model_validator(mode="after")
    def _check_algorithm(self) -> Self:
        given = [*self.model_dump(include={"loss_type", "scale_rewards"}, exclude_none=True)]
        if self.algorithm == "rloo" and given:
            raise ValueError(f"{given[0]} belongs to the algorithm grpo; leave it out with rloo")
        return self


class ReinforcementOptions(SamplingOptions):
    """A grader and the hyperparameters of GRPO and RLOO."""

    hyperparameters: SerializeAsAny[ReinforcementHyperparameters] = ReinforcementHyperparameters()


class ReinforcementSpec(SamplingSpec):
    """A job of GRPO or RLOO."""

    recipe: ClassVar[str] = "reinforcement"
    options_as: ClassVar[type[MethodOptions]] = ReinforcementOptions

    method: Literal["reinforcement"] = "reinforcement"
    algorithm: Literal["grpo", "rloo"] = "grpo"
    loss_type: LossType = "dapo"
    """The loss is a mean of these, with `grpo`: tokens (`dapo`), outputs (`grpo`) or a constant (`dr_grpo`)."""
    scale_rewards: Literal["group", "none"] = "group"
    """`group` divides the advantages of a group by the deviation of its rewards, with `grpo`."""

    @classmethod
    def resolve(cls, options: MethodOptions, rows: int) -> dict[str, Any]:
        """Return the fields for a file of *rows* prompts; the default of `beta` depends on the algorithm."""
        resolved = super().resolve(options, rows)
        asked = options.hyperparameters.model_dump(exclude_none=True)
        return resolved | {"beta": asked.get("beta", DEFAULT_BETAS[asked.get("algorithm", "grpo")])}
