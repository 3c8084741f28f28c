"""From estimates to the JSON objects that describe them."""

from __future__ import annotations

from estimates.devices import ComputeDevice
from estimates.model_config import ModelConfig
from estimates.serving import ServingChange, ServingEstimate
from estimates.training import Change, TrainingEstimate
from gateway.objects.estimates import (
    EstimatedChange,
    EstimatedDevice,
    ServingEstimateObject,
    TrainingEstimateObject,
)
from registry.contracts.fine_tune_spec import FineTuneSpec


def training_answer(
    made: TrainingEstimate, model: tuple[str, ModelConfig], spec: FineTuneSpec, rows: tuple[int, int]
) -> TrainingEstimateObject:
    """Return the answer for a job on *model*, under the name that was asked. *rows*: number, and longest in tokens."""
    name, config = model
    return TrainingEstimateObject(
        model=name,
        parameters=config.parameters,
        method=spec.method,
        rows=rows[0],
        longest=rows[1],
        batch_size=spec.batch_size,
        processes=made.processes,
        device=_device(made.device),
        fits=made.fits,
        peak_bytes=made.peak_bytes,
        phase=made.phase,
        parts=dict(made.parts),
        seconds=round(made.seconds, 1),
        step_seconds=round(made.step_s, 4),
        steps=made.steps,
        largest_batch=made.largest_batch,
        largest_length=made.largest_length,
        change=None if made.change is None else _job_change(made.change),
        corrected_by=made.correction.jobs,
        timed_by=made.correction.timed_jobs,
    )


def serving_answer(made: ServingEstimate, name: str, config: ModelConfig) -> ServingEstimateObject:
    """Return the answer for an engine that serves the model *name*."""
    choice = made.choice
    return ServingEstimateObject(
        model=name,
        parameters=config.parameters,
        device=_device(made.device),
        fits=made.fits,
        refusal=made.refusal,
        engine=None if choice is None else choice.kind,
        precision=None if choice is None else str(choice.precision),
        devices=0 if choice is None else choice.tensor_parallel,
        peak_bytes=sum(made.parts.values()),
        parts=dict(made.parts),
        context=0 if choice is None else choice.context,
        batch=0 if choice is None else choice.batch,
        adapters=0 if choice is None else choice.adapters,
        largest_context=0 if choice is None else choice.largest_context,
        largest_batch=0 if choice is None else choice.largest_batch,
        kv_bytes_per_token=0 if choice is None else choice.kv_bytes_per_token,
        answer_tokens_per_second=round(made.decoded_per_s, 1),
        batch_tokens_per_second=round(made.batch_decoded_per_s, 1),
        prompt_tokens_per_second=round(made.read_per_s, 1),
        reasons=[] if choice is None else list(choice.reasons),
        change=None if made.change is None else _engine_change(made.change),
    )


def _device(device: ComputeDevice) -> EstimatedDevice:
    return EstimatedDevice(
        name=device.name,
        count=device.count,
        memory_bytes=device.memory_bytes,
        available_bytes=device.usable_bytes,
    )


def _job_change(change: Change) -> EstimatedChange:
    return EstimatedChange(
        settings=dict(change.hyperparameters),
        device=change.device,
        peak_bytes=change.peak_bytes,
        seconds=round(change.seconds, 1),
        keeps_result=change.keeps_result,
    )


def _engine_change(change: ServingChange) -> EstimatedChange:
    return EstimatedChange(
        settings=dict(change.wishes), device=change.device, peak_bytes=None, seconds=None, keeps_result=False
    )
