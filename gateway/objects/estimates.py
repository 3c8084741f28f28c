"""Estimates of what a training job or an engine takes before it starts."""

from __future__ import annotations

from typing import Literal

from pydantic import JsonValue

from gateway.objects.lists import ApiObject


class EstimatedDevice(ApiObject):
    """The device that the estimate is for."""

    name: str
    count: int
    memory_bytes: int
    """Memory of one device."""
    available_bytes: int
    """Memory that a job or an engine may take."""


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


class TrainingEstimateObject(ApiObject):
    """Memory and time of a training job."""

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


class ServingEstimateObject(ApiObject):
    """Memory and speed of an engine that serves a model."""

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
    """Memory of each device; of the machine on a CPU."""
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
    """Speed of one answer alone."""
    batch_tokens_per_second: float
    """Speed of a full batch together."""
    prompt_tokens_per_second: float
    reasons: list[str]
    change: EstimatedChange | None
