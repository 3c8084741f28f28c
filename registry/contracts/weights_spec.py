"""How weights are trained: LoRA, quantized LoRA or all of them; the optimizer; what saves memory."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

WeightsKind = Literal["lora", "qlora", "full"]
"""LoRA on the base model's weights; LoRA on them quantized to NF4; every weight of the base model."""
OptimizerKind = Literal["adamw", "adafactor", "galore", "apollo"]
Precision = Literal["auto", "fp32", "bf16"]

LIBRARIES: Final[Mapping[WeightsKind, str]] = {"qlora": "bitsandbytes"}
"""Kind of weights -> the optional library that it needs."""


class OptimizerSpec(BaseModel):
    """The optimizer; rank, interval and scale are those of the optimizers that project gradients."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: OptimizerKind = "adamw"
    rank: int = Field(default=128, ge=1, le=4096)
    """Rows or columns that a projected gradient has."""
    interval: int = Field(default=200, ge=1)
    """Steps between two projections."""
    scale: float = Field(default=1.0, gt=0)
    """Factor on the updates of projected matrices. GaLore's paper has 0.25, with learning rates of pre-training."""


PROJECTING: Final[tuple[OptimizerKind, ...]] = ("galore", "apollo")
"""Optimizers that project gradients."""


class WeightsSpec(BaseModel):
    """Which weights of the base model are trained, and how."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: WeightsKind = "lora"
    merge: bool = False
    """Whether the trained adapter is merged into the base model, which gives a checkpoint."""
    optimizer: OptimizerSpec = OptimizerSpec()
    gradient_checkpointing: bool = False
    """Whether activations are computed again in the backward pass, which saves memory and takes time."""
    micro_batch_size: int | None = Field(default=None, ge=1)
    """Rows that go through the model at once, a divisor of the batch; None: up to 8."""
    precision: Precision = "auto"
    """Type that matrices are multiplied in; auto: bf16 on a GPU that has it, else fp32."""

    @property
    def is_full(self) -> bool:
        """Whether all weights are trained, without an adapter."""
        return self.kind == "full"

    def missing_library(self) -> str | None:
        """Return the library that the weights need and that is not installed here; None if nothing is missing."""
        needed = LIBRARIES.get(self.kind)
        return needed if needed is not None and find_spec(needed) is None else None


def optimizer_of(kind: OptimizerKind | None, **asked: Any) -> OptimizerSpec:
    """Return the optimizer with what was *asked* for over the usual values; None is left out."""
    given = {"kind": kind, **asked}
    return OptimizerSpec.model_validate({name: value for name, value in given.items() if value is not None})
