"""Over how many processes a job is trained, and how they share the work."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from registry.contracts.job_spec import LoraSpec
from registry.contracts.weights_spec import WeightsSpec
from registry.errors import WeightsRefused

Parallelism = Literal["ddp", "fsdp2", "deepspeed_zero2", "deepspeed_zero3"]
"""The parts that the processes split beside the rows.

ddp: nothing, each has all weights, and gradients are exchanged; fsdp2: weights, gradients and states of the optimizer,
by PyTorch; deepspeed_zero3: the same, by DeepSpeed; deepspeed_zero2: gradients and states of the optimizer alone.
"""
ZERO_STAGES: Final[Mapping[Parallelism, int]] = {"deepspeed_zero2": 2, "deepspeed_zero3": 3}
"""Way of DeepSpeed -> the stage of its ZeRO."""
DEEPSPEED: Final = "deepspeed"
"""The optional library that these ways need."""
MOST_PROCESSES: Final = 64


class ParallelSpec(BaseModel):
    """The processes of a job, all on one machine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    processes: int = Field(default=1, ge=1, le=MOST_PROCESSES)
    """How many processes train; each has its share of every batch."""
    parallelism: Parallelism = "ddp"

    def divisible(self, batch_size: int) -> int:
        """Return the next larger batch that the processes can share evenly."""
        return -(-batch_size // self.processes) * self.processes

    def check(self, batch_size: int, weights: WeightsSpec, lora: LoraSpec) -> None:
        """Raise `WeightsRefused` where the processes cannot share the job."""
        if self.processes == 1:
            return
        if batch_size < self.processes:
            raise WeightsRefused(
                f"processes {self.processes} are more than the {batch_size} rows of a batch; take fewer processes, or "
                "a larger batch_size from a file with as many rows"
            )
        if batch_size % self.processes != 0:
            raise WeightsRefused(
                f"processes {self.processes} cannot share a batch_size of {batch_size} evenly; "
                f"{self.divisible(batch_size)} would do"
            )
        share = batch_size // self.processes
        if weights.micro_batch_size is not None and share % weights.micro_batch_size != 0:
            raise WeightsRefused(
                f"micro_batch_size {weights.micro_batch_size} does not divide the {share} rows of a batch of "
                f"{batch_size} that each of {self.processes} processes learns"
            )
        self._check_splitting(weights, lora)

    def _check_splitting(self, weights: WeightsSpec, lora: LoraSpec) -> None:
        """Raise `WeightsRefused` where what the processes split cannot be split, or not with what is installed."""
        if self.parallelism == "ddp":
            return
        splittable = weights.kind != "qlora" and not lora.changes_base and lora.variant != "dora"
        if not (splittable and weights.optimizer.kind == "adamw"):
            raise WeightsRefused(
                f"parallelism {self.parallelism} goes with weights lora (variants lora, rslora) or full and optimizer "
                "adamw; take ddp"
            )
        if self.zero_stage is not None and weights.precision == "bf16":
            raise WeightsRefused(
                f"parallelism {self.parallelism} goes with precision auto or fp32, not bf16; take fsdp2"
            )
        if self.zero_stage is not None and find_spec(DEEPSPEED) is None:
            raise WeightsRefused(
                f"parallelism {self.parallelism} needs the library {DEEPSPEED}, which is not installed: take fsdp2, or "
                "install it with pip install lorry[deepspeed]"
            )

    @property
    def shards_weights(self) -> bool:
        """Whether each process holds a part of the weights only."""
        return self.processes > 1 and self.parallelism in ("fsdp2", "deepspeed_zero3")

    @property
    def zero_stage(self) -> int | None:
        """The stage of DeepSpeed's ZeRO; None where DeepSpeed has no part."""
        return ZERO_STAGES.get(self.parallelism) if self.processes > 1 else None

    def libraries(self) -> frozenset[str]:
        """Return the optional library that the processes need."""
        return frozenset() if self.zero_stage is None else frozenset({DEEPSPEED})
