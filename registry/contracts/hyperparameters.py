"""Hyperparameters as a caller asks for them, and the values that `auto` stands for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BeforeValidator, Field, SerializeAsAny, model_validator

from registry.contracts.graders.grader_spec import GraderSpec
from registry.contracts.job_spec import LoraSpec, LoraVariant
from registry.contracts.parallel_spec import MOST_PROCESSES, Parallelism, ParallelSpec
from registry.contracts.unfit_rows import UnfitChoice
from registry.contracts.weights_spec import PROJECTING, OptimizerKind, Precision, WeightsKind, WeightsSpec, optimizer_of
from registry.wording.known_fields import KnownFields

AUTO_STEPS: Final = 75
"""Optimisation steps that `auto` aims at: enough for a LoRA of rank 16 to learn a style of answering."""
AUTO: Final = "auto"


def _auto_is_none(value: Any) -> Any:
    return None if value == AUTO else value


AUTO_IS_NONE: Final = BeforeValidator(_auto_is_none)
"""Metadata of a field that may be `auto`, which its value None stands for."""


_OF_LORA: Final = (
    "lora_rank",
    "lora_alpha",
    "lora_dropout",
    "target_modules",
    "lora_variant",
    "lora_plus_ratio",
    "merge",
)
_OF_PROJECTIONS: Final = ("optimizer_rank", "optimizer_interval", "optimizer_scale")
_ONLY_FULL: Final = "goes with weights full: an adapter's matrices are too small to project"


class Hyperparameters(KnownFields):
    """Hyperparameters of a request: OpenAI's three, each a value or `auto` (None here), then Lorry's own.

    A method with further hyperparameters has a subclass of its own, and one of `MethodOptions` that names it.
    """

    n_epochs: Annotated[Annotated[int, Field(ge=1, le=50)] | None, AUTO_IS_NONE] = None
    batch_size: Annotated[Annotated[int, Field(ge=1, le=256)] | None, AUTO_IS_NONE] = None
    learning_rate_multiplier: Annotated[Annotated[float, Field(gt=0, le=1e6)] | None, AUTO_IS_NONE] = None
    learning_rate: Annotated[float, Field(gt=0, le=1000)] | None = None
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] | None = None
    max_length: Annotated[int, Field(ge=16)] | None = None
    unfit_rows: UnfitChoice | None = None
    most_unfit_rows: Annotated[float, Field(ge=0, le=1)] | None = None
    checkpoint_steps: Annotated[int, Field(ge=1)] | None = None
    lora_rank: Annotated[int, Field(ge=1, le=512)] | None = None
    lora_alpha: Annotated[int, Field(ge=1)] | None = None
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    target_modules: list[str] | None = None
    keep: Literal["last", "best"] | None = None
    early_stopping_patience: Annotated[int, Field(ge=1)] | None = None
    serve_checkpoints: Literal["epochs", "steps", "none"] | None = None
    weights: WeightsKind | None = None
    lora_variant: LoraVariant | None = None
    lora_plus_ratio: Annotated[float, Field(ge=1, le=1000)] | None = None
    merge: bool | None = None
    optimizer: OptimizerKind | None = None
    optimizer_rank: Annotated[int, Field(ge=1, le=4096)] | None = None
    optimizer_interval: Annotated[int, Field(ge=1)] | None = None
    optimizer_scale: Annotated[float, Field(gt=0, le=1000)] | None = None
    gradient_checkpointing: bool | None = None
    micro_batch_size: Annotated[int, Field(ge=1, le=256)] | None = None
    precision: Precision | None = None
    processes: Annotated[int, Field(ge=1, le=MOST_PROCESSES)] | None = None
    parallelism: Parallelism | None = None

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        for is_set, names, reason in (
            (self.weights == "full", _OF_LORA, "goes with weights lora or qlora, which train an adapter"),
            (self.weights != "full" and self.optimizer in PROJECTING, ("optimizer",), _ONLY_FULL),
            (self.optimizer not in PROJECTING, _OF_PROJECTIONS, f"goes with optimizer {' or '.join(PROJECTING)}"),
            (self.optimizer in (*PROJECTING, "adafactor"), ("lora_plus_ratio",), "goes with optimizer adamw"),
        ):
            given = [name for name in names if is_set and getattr(self, name) is not None]
            if given:
                raise ValueError(f"{given[0]} {json.dumps(getattr(self, given[0]))} {reason}")
        if self.weights == "qlora" and self.lora_variant not in (None, "lora", "rslora"):
            raise ValueError(f"lora_variant {self.lora_variant!r} needs the base's own weights: take weights lora")
        if self.lora_variant == "dora" and self.merge is False:
            raise ValueError("lora_variant 'dora' is served merged only, as vLLM serves no DoRA: leave merge out")
        return self

    def lora(self) -> LoraSpec:
        """Return the shape of the adapter; an alpha that was not given is twice the rank."""
        given = {
            "rank": self.lora_rank,
            "alpha": self.lora_alpha or (2 * self.lora_rank if self.lora_rank else None),
            "dropout": self.lora_dropout,
            "target_modules": tuple(self.target_modules) if self.target_modules else None,
            "variant": self.lora_variant,
            "plus_ratio": self.lora_plus_ratio,
        }
        return LoraSpec.model_validate({name: value for name, value in given.items() if value is not None})

    def parallel(self) -> ParallelSpec:
        """Return over how many processes the job is trained, and how."""
        given = {"processes": self.processes, "parallelism": self.parallelism}
        return ParallelSpec.model_validate({name: value for name, value in given.items() if value is not None})

    def trained_weights(self) -> WeightsSpec:
        """Return what is trained and how; DoRA is always merged."""
        given = {
            "kind": self.weights,
            "merge": self.merge or self.lora_variant == "dora",
            "gradient_checkpointing": self.gradient_checkpointing,
            "micro_batch_size": self.micro_batch_size,
            "precision": self.precision,
            "optimizer": optimizer_of(
                self.optimizer,
                rank=self.optimizer_rank,
                interval=self.optimizer_interval,
                scale=self.optimizer_scale,
            ),
        }
        return WeightsSpec.model_validate({name: value for name, value in given.items() if value is not None})

    def as_asked(self) -> dict[str, int | float | str]:
        """Return the values as the caller sent them, `auto` included, lists left out."""
        autos = {"n_epochs": AUTO, "batch_size": AUTO, "learning_rate_multiplier": AUTO}
        given = self.model_dump(exclude_none=True)
        return autos | {name: value for name, value in given.items() if not isinstance(value, list)}


class MethodOptions(KnownFields):
    """The fields of a request below `method.<type>`; methods with fields of their own have a subclass."""

    hyperparameters: SerializeAsAny[Hyperparameters] = Hyperparameters()

    def graders(self) -> tuple[GraderSpec, ...]:
        """Return the graders of the job; most methods have none."""
        return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoHyperparameters:
    """The values that `auto` stands for."""

    n_epochs: int
    batch_size: int
    learning_rate: float


def resolve_auto(rows: int, learning_rate: float) -> AutoHyperparameters:
    """Return the values of `auto` for *rows* examples: about `AUTO_STEPS` steps, or one epoch if that is more.

    *learning_rate* is the method's own for a multiplier of 1.
    """
    batch_size = max(2, min(32, rows // AUTO_STEPS))
    n_epochs = max(1, min(10, round(AUTO_STEPS * batch_size / max(1, rows))))
    return AutoHyperparameters(n_epochs=n_epochs, batch_size=batch_size, learning_rate=learning_rate)
