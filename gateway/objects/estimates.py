"""Estimates of what a training job or an engine takes before it starts."""

from __future__ import annotations

from typing import Literal

from pydantic import JsonValue

from estimates.devices import ComputeDevice
from estimates.serving import ServingEstimate
from estimates.training import Change, TrainingEstimate
from gateway.objects.lists import ApiObject
from registry.contracts.fine_tune_spec import FineTuneSpec


class EstimatedDevice(ApiObject):
    """The device that the estimate is for."""

    name: str
    count: int
    memory_bytes: int
    """Of one device."""
    available_bytes: int
    """What a job or an engine may take of it."""

    @classmethod
    def of(cls, device: ComputeDevice) -> EstimatedDevice:
        """Return the answer's part for *device*."""
        return cls(
            name=device.name,
            count=device.count,
            memory_bytes=device.memory_bytes,
            available_bytes=device.usable_bytes,
        )


class EstimatedChange(ApiObject):
    """The cheapest change with which it fits."""

    settings: dict[str, JsonValue]
    """Hyperparameters of the job, or wishes for the engine, to be set; empty where another device is the change."""
    device: str | None
    """A known device on which it fits as it was asked."""
    peak_bytes: int | None
    seconds: float | None
    keeps_result: bool
    """Whether the job learns the same up to rounding."""

    @classmethod
    def of(cls, change: Change) -> EstimatedChange:
        """Return the answer's part for *change*."""
        return cls(
            settings={name: value for name, value in change.hyperparameters.items()},
            device=change.device,
            peak_bytes=change.peak_bytes,
            seconds=round(change.seconds, 1),
            keeps_result=change.keeps_result,
        )


class TrainingEstimateObject(ApiObject):
    """What a training job takes."""

    object: Literal["estimate.training"] = "estimate.training"
    model: str
    parameters: int
    method: str
    rows: int
    longest: int
    """Tokens of the longest row; of a method that samples outputs, of its prompt."""
    batch_size: int
    processes: int
    device: EstimatedDevice
    fits: bool
    peak_bytes: int
    """On a CPU of all processes together, else of each device."""
    phase: str
    """When the peak is: loading, sampling, training or finishing."""
    parts: dict[str, int]
    """Bytes by part at the peak; they add up to it."""
    seconds: float
    step_seconds: float
    steps: int
    largest_batch: int
    """Most rows that fit into a pass, at most 256; 0 where not one does. A larger batch is learnt in several passes."""
    largest_length: int
    """Longest rows that fit, in tokens; 0 where none does."""
    change: EstimatedChange | None
    corrected_by: int
    """Finished jobs of this kind and size on this machine that corrected the memory."""
    timed_by: int
    """Such jobs that corrected the time."""

    @classmethod
    def of(
        cls, estimate: TrainingEstimate, model: tuple[str, int], spec: FineTuneSpec, rows: tuple[int, int]
    ) -> TrainingEstimateObject:
        """Return the answer. *model*: name and parameters. *rows*: their number, and the longest one's tokens."""
        return cls(
            model=model[0],
            parameters=model[1],
            method=spec.method,
            rows=rows[0],
            longest=rows[1],
            batch_size=spec.batch_size,
            processes=estimate.processes,
            device=EstimatedDevice.of(estimate.device),
            fits=estimate.fits,
            peak_bytes=estimate.peak_bytes,
            phase=estimate.phase,
            parts=dict(estimate.parts),
            seconds=round(estimate.seconds, 1),
            step_seconds=round(estimate.step_s, 4),
            steps=estimate.steps,
            largest_batch=estimate.largest_batch,
            largest_length=estimate.largest_length,
            change=None if estimate.change is None else EstimatedChange.of(estimate.change),
            corrected_by=estimate.correction.jobs,
            timed_by=estimate.correction.timed_jobs,
        )


class ServingEstimateObject(ApiObject):
    """What an engine takes that serves a model."""

    object: Literal["estimate.serving"] = "estimate.serving"
    model: str
    parameters: int
    device: EstimatedDevice
    fits: bool
    refusal: str | None
    """Why nothing fits, with the numbers."""
    engine: str | None
    precision: str | None
    devices: int
    """Devices that share each layer."""
    peak_bytes: int
    """Of each device; of the machine on a CPU."""
    parts: dict[str, int]
    context: int
    """Longest prompt and answer together, in tokens."""
    batch: int
    """Sequences at a time."""
    adapters: int
    largest_context: int
    """Longest context of one sequence alone."""
    largest_batch: int
    """Most sequences of full length."""
    kv_bytes_per_token: int
    answer_tokens_per_second: float
    """Of one answer alone."""
    batch_tokens_per_second: float
    """Of a full batch together."""
    prompt_tokens_per_second: float
    reasons: list[str]
    change: EstimatedChange | None

    @classmethod
    def of(cls, estimate: ServingEstimate, name: str, parameters: int) -> ServingEstimateObject:
        """Return the answer for the model *name*."""
        choice, change = estimate.choice, estimate.change
        return cls(
            model=name,
            parameters=parameters,
            device=EstimatedDevice.of(estimate.device),
            fits=estimate.fits,
            refusal=estimate.refusal,
            engine=None if choice is None else choice.kind,
            precision=None if choice is None else str(choice.precision),
            devices=0 if choice is None else choice.tensor_parallel,
            peak_bytes=sum(estimate.parts.values()),
            parts=dict(estimate.parts),
            context=0 if choice is None else choice.context,
            batch=0 if choice is None else choice.batch,
            adapters=0 if choice is None else choice.adapters,
            largest_context=0 if choice is None else choice.largest_context,
            largest_batch=0 if choice is None else choice.largest_batch,
            kv_bytes_per_token=0 if choice is None else choice.kv_bytes_per_token,
            answer_tokens_per_second=round(estimate.decoded_per_s, 1),
            batch_tokens_per_second=round(estimate.batch_decoded_per_s, 1),
            prompt_tokens_per_second=round(estimate.read_per_s, 1),
            reasons=[] if choice is None else list(choice.reasons),
            change=None
            if change is None
            else EstimatedChange(
                settings={name: value for name, value in change.wishes.items()},
                device=change.device,
                peak_bytes=None,
                seconds=None,
                keeps_result=False,
            ),
        )
