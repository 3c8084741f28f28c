"""Estimates of fine-tuning jobs at submit, and what finished jobs of the same kind on this machine correct."""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from engines.hardware.machine import GB
from estimates.corrections import Measurement
from estimates.devices import own_device
from estimates.errors import EstimateError
from estimates.model_config import read_model_config
from estimates.training import TrainingEstimate, estimate_training
from gateway.openai.job_request import Uploads
from gateway.own_machine import OwnMachine
from registry.contracts.fine_tune_spec import FineTuneSpec
from registry.database import Registry
from registry.jobs.job import Job
from registry.jobs.scheduling.room import QueueEntry

THREADS: Final = 1
"""CPU threads of a job where the trainer's settings have no other number."""


def measured_like(registry: Registry, spec: FineTuneSpec) -> Sequence[Measurement]:
    """Return what finished jobs of the spec's kind took on this machine, the latest first. Reads the registry."""
    return [
        Measurement(
            estimated_bytes=each.estimated_bytes,
            peak_bytes=each.peak_bytes,
            estimated_s=each.estimated_s,
            seconds=each.seconds,
        )
        for each in registry.measurements.like(spec, socket.gethostname())
    ]


def estimate_of_spec(spec: FineTuneSpec, registry: Registry, machine: OwnMachine) -> TrainingEstimate | None:
    """Return what the job will take on this machine; None for a model whose config lacks a field. Reads the file."""
    folder = Path(registry.at_hand(registry.bases.get(spec.base)).path)
    try:
        model = read_model_config(folder)
        uploads = Uploads(registry, None, folder)
        shape = uploads.data_shape(type(spec), spec.training_file, "training_file")
        if spec.validation_file is not None:
            shape = replace(shape, validation_rows=uploads.count_lines(spec.validation_file, "validation_file"))
        device = own_device(machine.get(), THREADS)
        return estimate_training(model, spec, shape, device, measured_like(registry, spec))
    except EstimateError:
        return None


def queue_entry(spec: FineTuneSpec, made: TrainingEstimate | None, after: tuple[str, ...]) -> QueueEntry:
    """Return how a job waits that will take what *made* estimates."""
    if made is None:
        return QueueEntry(after=after)
    shared = made.parts["process"] + made.parts["weights"] if spec.is_light() else 0
    return QueueEntry(after=after, needed_bytes=made.peak_bytes, shared_bytes=shared, expected_s=made.seconds)


def advice(made: TrainingEstimate | None) -> str:
    """Return the end of a refusal's sentence: the parts of the memory, and the change with which the job fits."""
    if made is None:
        return ""
    parts = ", ".join(f"{size / GB:.1f} GB {name.replace('_', ' ')}" for name, size in made.parts.items() if size)
    told = f"; it takes {parts}"
    change = made.change
    if change is None or not change.hyperparameters:
        return told
    settings = ", ".join(f"{name} {json.dumps(value)}" for name, value in change.hyperparameters.items())
    return f"{told}; with {settings} it takes {change.peak_bytes / GB:.1f} GB"


def remember_estimate(job: Job, made: TrainingEstimate | None, registry: Registry) -> None:
    """Store the uncorrected estimate, which the job's measured peak and time are compared with."""
    if made is not None:
        registry.measurements.add_estimate(job.id, job.spec, made.uncorrected_bytes, made.uncorrected_s)
