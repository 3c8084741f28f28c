"""What a fine-tuning job is asked to do: the gateway writes it, the trainer reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from registry.rollouts.rollout import RolloutPlan, plan_from

METHODS = ("supervised",)
"""Training methods that a recipe exists for."""

ROLLOUT: Final = "rollout_"
"""How the fields of a spec begin that are those of `rollout.plan_as_json`."""

BASE_LEARNING_RATE: Final = 1e-3
"""What a `learning_rate_multiplier` of 1 means: LoRA takes some ten times the rate of full fine-tuning."""
AUTO_STEPS: Final = 75
"""Optimisation steps that `auto` aims at: enough for a LoRA of rank 16 to take on a manner of answering."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoHyperparameters:
    """What `auto` stands for."""

    n_epochs: int
    batch_size: int
    learning_rate: float


def resolve_auto(rows: int) -> AutoHyperparameters:
    """What `auto` means for a file of *rows* examples: about `AUTO_STEPS` steps, or one epoch if that is more."""
    batch_size = max(2, min(32, rows // AUTO_STEPS))
    n_epochs = max(1, min(10, round(AUTO_STEPS * batch_size / max(1, rows))))
    return AutoHyperparameters(n_epochs=n_epochs, batch_size=batch_size, learning_rate=BASE_LEARNING_RATE)


class LoraSpec(BaseModel):
    """Shape of the adapter to train."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rank: int = Field(default=16, ge=1, le=512)
    alpha: int = Field(default=32, ge=1)
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    target_modules: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class TrainingSpec(BaseModel):
    """Everything that decides a job's result; two runs of one spec give the same bytes on the same machine.

    Every value is resolved: no `auto` is left for the trainer.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Literal["supervised"] = "supervised"
    base: str
    """Name of the base model."""
    base_digest: str
    adapter: str
    """Name of the adapter whose next revision the job publishes."""
    training_file: str
    """File id."""
    validation_file: str | None = None
    n_epochs: int = Field(ge=1, le=50)
    batch_size: int = Field(ge=1, le=256)
    learning_rate: float = Field(gt=0.0)
    learning_rate_multiplier: float = Field(default=1.0, gt=0.0)
    """What the caller asked for; already part of `learning_rate`, kept for the answer."""
    warmup_ratio: float = Field(default=0.03, ge=0.0, lt=1.0)
    max_length: int = Field(default=1024, ge=16)
    """Longest row in tokens; a longer row fails the job instead of being cut in silence."""
    checkpoint_steps: int = Field(default=25, ge=1)
    seed: int = Field(ge=0, le=2147483647)
    lora: LoraSpec = LoraSpec()
    suffix: str | None = None
    rollout_steps: tuple[int | str, ...] | None = None
    """Steps of a rollout that begins when the revision is published; None publishes only."""
    rollout_every_s: float | None = None
    rollout_guardrails: dict[str, Any] | None = None
    rollout_shadow_judge: str | None = None
    metadata: dict[str, str] = Field(default_factory=dict)
    requested: dict[str, int | float | str] = Field(default_factory=dict)
    """The hyperparameters as the caller sent them, `auto` included."""

    def rollout_plan(self) -> RolloutPlan | None:
        """The plan of the rollout that was asked for."""
        if self.rollout_steps is None:
            return None
        named = {name: value for name, value in self if name.startswith(ROLLOUT)}
        return plan_from({name.removeprefix(ROLLOUT): value for name, value in named.items()})
