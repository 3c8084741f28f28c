"""The estimate of an engine that serves a model: memory by part, what fits at most, and tokens a second.

Which engine serves a model, in which precision and sizes, is decided by `engines.hardware.choice`; here its numbers are
made from a config alone, for any device.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from engines.errors import DoesNotFit
from engines.hardware.choice import choose
from engines.hardware.machine import Processor
from engines.hardware.memory import weight_bytes
from engines.hardware.wishes import Choice, Wishes
from engines.kinds import Precision
from estimates.devices import KNOWN_DEVICES, ComputeDevice
from estimates.model_config import ModelConfig

BANDWIDTH_EFFICIENCY: Final = 0.6
"""Part of a memory's bytes a second that decoding reaches; 0.55 to 0.65 were measured (arXiv:2311.03687, section 5)."""
READING_EFFICIENCY: Final = 0.4
"""Part of a device's operations a second that reading a prompt reaches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingChange:
    """A change with which a model fits that does not."""

    wishes: Mapping[str, Any]
    device: str | None
    """A known device on which it fits as it was wished."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingEstimate:
    """Memory and speed of an engine."""

    device: ComputeDevice
    choice: Choice | None
    """The engine and its sizes; None where none fits."""
    refusal: str | None
    """Why none fits, with the numbers of each engine."""
    parts: Mapping[str, int]
    """Bytes by part, of one device; empty where none fits."""
    decoded_per_s: float
    """Tokens a second of one answer."""
    batch_decoded_per_s: float
    """Tokens a second of a full batch together."""
    read_per_s: float
    """Tokens of prompts a second."""
    change: ServingChange | None

    @property
    def fits(self) -> bool:
        """Whether an engine fits."""
        return self.choice is not None


def estimate_serving(
    model: ModelConfig, wishes: Wishes, device: ComputeDevice, processor: Processor
) -> ServingEstimate:
    """Return the estimate for serving *model* as wished on *device* of a machine with *processor*."""
    try:
        choice = choose(device.machine(processor), model.shape(), wishes)
    except DoesNotFit as exc:
        return ServingEstimate(
            device=device,
            choice=None,
            refusal=str(exc),
            parts={},
            decoded_per_s=0.0,
            batch_decoded_per_s=0.0,
            read_per_s=0.0,
            change=_change(model, wishes, device, processor),
        )
    single, together = (_decoded(model, choice, device, batch) for batch in (1, choice.batch))
    memory = choice.memory
    return ServingEstimate(
        device=device,
        choice=choice,
        refusal=None,
        parts={"weights": memory.weights, "adapter": memory.slots, "kv": memory.kv, "process": memory.reserve},
        decoded_per_s=single,
        batch_decoded_per_s=together,
        read_per_s=READING_EFFICIENCY * device.flops * choice.tensor_parallel / (2.0 * model.active_weights),
        change=None,
    )


def _decoded(model: ModelConfig, choice: Choice, device: ComputeDevice, batch: int) -> float:
    """Return the tokens a second of *batch* answers together, each with half of its context behind it.

    A step reads the weights that compute once, and the keys and values of every answer: Pope et al. 2022, Efficiently
    Scaling Transformer Inference (arXiv:2211.05102), section 2.1. A batch reads up to all experts of a mixture.
    """
    shape = model.shape()
    weights = weight_bytes(shape, choice.precision) / choice.tensor_parallel
    passed = min(1.0, batch * model.active_weights / model.linear_weights)
    kv = batch * choice.kv_bytes_per_token * choice.context / 2
    return batch * BANDWIDTH_EFFICIENCY * device.bandwidth / (weights * passed + kv)


def _change(model: ModelConfig, wishes: Wishes, device: ComputeDevice, processor: Processor) -> ServingChange | None:
    for fields in _smaller(wishes, device):
        if _can(model, replace(wishes, **fields), device, processor):
            return ServingChange(wishes=fields, device=None)
    for name, known in sorted(KNOWN_DEVICES.items(), key=lambda item: item[1].memory_bytes):
        there = replace(known, count=max(device.count, wishes.tensor_parallel or 1))
        if _can(model, wishes, there, processor):
            return ServingChange(wishes={}, device=name)
    return None


def _smaller(wishes: Wishes, device: ComputeDevice) -> Iterator[dict[str, Any]]:
    """Yield wishes for less, those first that take the least away."""
    if wishes.adapters is None or wishes.adapters > 0:
        yield {"adapters": 0}
    if wishes.batch is not None and wishes.batch > 1:
        yield {"batch": 1}
    context = wishes.context or 0
    while context > 2048:
        context //= 2
        yield {"context": context}
    if not device.is_processor and wishes.precision is not Precision.FP8:
        yield {"precision": Precision.FP8}


def _can(model: ModelConfig, wishes: Wishes, device: ComputeDevice, processor: Processor) -> bool:
    try:
        choose(device.machine(processor), model.shape(), wishes)
    except DoesNotFit:
        return False
    return True
