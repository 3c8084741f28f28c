"""The estimate of a training job: peak memory by part, whether it fits, its time, and what would make it fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from estimates.corrections import NO_CORRECTION, Correction, Measurement, correction_of
from estimates.data_shape import DataShape
from estimates.devices import KNOWN_DEVICES, ComputeDevice
from estimates.model_config import ModelConfig
from estimates.training_memory import PhaseMemory, TrainingMemory
from estimates.training_phases import micro_rows, phases, workings
from estimates.training_time import training_time
from registry.contracts.fine_tune_spec import FineTuneSpec
from registry.contracts.weights_spec import PROJECTING

LARGEST_BATCH: Final = 256
"""The largest batch that a request may ask for."""
SHORTEST: Final = 16
"""The least `max_length`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A change of a job that makes it fit."""

    hyperparameters: Mapping[str, Any]
    """To be set; empty where another device is the change."""
    device: str | None
    """A known device on which the job fits as it is."""
    peak_bytes: int
    seconds: float
    keeps_result: bool
    """Whether the job learns the same up to rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingEstimate:
    """Memory and time of a training job."""

    device: ComputeDevice
    processes: int
    phase: str
    """The phase of the peak: loading, sampling, training or finishing."""
    parts: Mapping[str, int]
    """Bytes by part in that phase, corrected; on a CPU of all processes, else of one device."""
    uncorrected_bytes: int
    uncorrected_s: float
    correction: Correction
    seconds: float
    step_s: float
    steps: int
    largest_batch: int
    """Most rows that fit into a pass (`micro_batch_size`), at most 256; 0 where not one fits. A larger batch is
    learnt in several passes, for which the memory is the same."""
    largest_length: int
    """Longest rows that fit, in tokens, at most the model's context; 0 where none does."""
    change: Change | None
    """The cheapest change that makes a job fit that does not; None where it fits, or nothing helps."""

    @property
    def peak_bytes(self) -> int:
        """Return the most bytes that the job has at a time."""
        return sum(self.parts.values())

    @property
    def available_bytes(self) -> int:
        """Return the bytes that a job may take there."""
        return self.device.usable_bytes

    @property
    def fits(self) -> bool:
        """Whether the job fits the device, or as many of them as it has processes."""
        enough = self.device.is_processor or self.processes <= self.device.count
        return enough and self.peak_bytes <= self.available_bytes


def estimate_training(
    model: ModelConfig,
    spec: FineTuneSpec,
    shape: DataShape,
    device: ComputeDevice,
    measured: Sequence[Measurement] = (),
) -> TrainingEstimate:
    """Return the estimate of the job *spec* on rows of *shape*; `EstimateError` names what the model lacks.

    *measured* are finished jobs of the same kind on the same machine, the latest first, which correct it.
    """
    shape = shape.fitting(spec.max_length, is_cut=spec.unfit_rows == "cut")
    plain = _Trial(model, spec, shape, device, NO_CORRECTION)
    peak = plain.peak()
    time = training_time(plain.memory, plain.found)
    correction = correction_of(measured, plain.bytes_of(peak), time.seconds)
    trial = _Trial(model, spec, shape, device, correction)
    parts = {name: round(size * trial.scale) for name, size in peak.parts.items() if size or name in ALWAYS_SHOWN}
    fits = trial.fits()
    return TrainingEstimate(
        device=device,
        processes=spec.parallel.processes,
        phase=peak.phase,
        parts=parts,
        uncorrected_bytes=plain.bytes_of(peak),
        uncorrected_s=time.seconds,
        correction=correction,
        seconds=time.seconds * correction.time,
        step_s=time.step_s * correction.time,
        steps=time.steps,
        largest_batch=trial.largest_batch(),
        largest_length=trial.largest_length(),
        change=None if fits else trial.change(),
    )


ALWAYS_SHOWN: Final = ("reference_model",)
"""Parts that are shown at 0 bytes."""


class _Trial:
    """A job that is tried on a device."""

    def __init__(
        self, model: ModelConfig, spec: FineTuneSpec, shape: DataShape, device: ComputeDevice, correction: Correction
    ) -> None:
        self.memory = TrainingMemory(model=model, spec=spec, device=device)
        self._shape = shape
        self._correction = correction
        self.found = workings(self.memory, shape)

    @property
    def scale(self) -> float:
        """Return the factor from a process to what counts: on a CPU all processes share the memory."""
        together = self.memory.spec.parallel.processes if self.memory.device.is_processor else 1
        return together * self._correction.memory

    def peak(self) -> PhaseMemory:
        """Return the phase with the most bytes, of one process."""
        return max(phases(self.memory, self.found), key=lambda phase: phase.bytes)

    def bytes_of(self, phase: PhaseMemory) -> int:
        """Return the bytes that count of *phase*."""
        return round(phase.bytes * self.scale)

    def fits(self) -> bool:
        """Whether the peak is within what the device gives."""
        device, processes = self.memory.device, self.memory.spec.parallel.processes
        enough = device.is_processor or processes <= device.count
        return enough and self.bytes_of(self.peak()) <= device.usable_bytes

    def with_spec(self, **fields: Any) -> _Trial:
        """Return the trial with other fields of the spec."""
        spec = self.memory.spec.model_copy(update=fields)
        return _Trial(self.memory.model, spec, self._shape, self.memory.device, self._correction)

    def with_weights(self, **fields: Any) -> _Trial:
        """Return the trial with other fields of the weights' spec."""
        return self.with_spec(weights=self.memory.spec.weights.model_copy(update=fields))

    def _with_shape(self, shape: DataShape) -> _Trial:
        return _Trial(self.memory.model, self.memory.spec, shape, self.memory.device, self._correction)

    def largest_batch(self) -> int:
        """Return the most rows of a pass that fit."""
        enough = LARGEST_BATCH * self.memory.spec.parallel.processes
        of_a_large_file = self._with_shape(replace(self._shape, rows=max(self._shape.rows, enough)))
        return _largest(lambda rows: of_a_large_file.with_weights(micro_batch_size=rows).fits(), LARGEST_BATCH, 1)

    def largest_length(self) -> int:
        """Return the longest rows that fit."""
        longest = self.memory.model.max_context
        return _largest(lambda length: self._with_shape(self._shape.cut(length)).fits(), longest, SHORTEST)

    def change(self) -> Change | None:
        """Return the change that makes the job fit and takes the least time; those that keep the result come first."""
        for keeps_result, tried in ((True, self._same_result()), (False, self._other_result())):
            fitting = [self._made(fields, trial, keeps_result) for fields, trial in tried if trial.fits()]
            if fitting:
                return min(fitting, key=lambda change: (round(change.seconds), -change.peak_bytes))
        return self._larger_device()

    def _made(self, fields: Mapping[str, Any], trial: _Trial, keeps_result: bool) -> Change:
        seconds = training_time(trial.memory, trial.found).seconds * self._correction.time
        return Change(
            hyperparameters=fields,
            device=None,
            peak_bytes=trial.bytes_of(trial.peak()),
            seconds=seconds,
            keeps_result=keeps_result,
        )

    def _same_result(self) -> Iterator[tuple[Mapping[str, Any], _Trial]]:
        rows = micro_rows(self.memory.spec)
        smaller = [size for size in range(rows - 1, 0, -1) if rows % size == 0]
        for size in smaller:
            yield {"micro_batch_size": size}, self.with_weights(micro_batch_size=size)
        for size in [rows, *smaller]:
            fields = {"gradient_checkpointing": True} | ({} if size == rows else {"micro_batch_size": size})
            yield fields, self.with_weights(**fields)

    def _other_result(self) -> Iterator[tuple[Mapping[str, Any], _Trial]]:
        spec = self.memory.spec
        kinds = {"full": ("lora", "qlora"), "lora": ("qlora",), "qlora": ()}[spec.weights.kind]
        plain = spec.lora.variant in ("lora", "rslora") and not self.memory.model.quantization
        for kind in kinds if plain and spec.parallel.parallelism == "ddp" else ():
            optimizer = (
                {} if spec.weights.optimizer.kind not in PROJECTING else {"optimizer": type(spec.weights.optimizer)()}
            )
            for more in ({}, {"gradient_checkpointing": True, "micro_batch_size": 1}):
                yield {"weights": kind, **more}, self.with_weights(kind=kind, **optimizer, **more)

    def _larger_device(self) -> Change | None:
        memory = self.memory
        for name, device in sorted(KNOWN_DEVICES.items(), key=lambda item: item[1].memory_bytes):
            there = replace(device, count=memory.spec.parallel.processes)
            trial = _Trial(memory.model, memory.spec, self._shape, there, NO_CORRECTION)
            if trial.fits():
                return Change(
                    hyperparameters={},
                    device=name,
                    peak_bytes=trial.bytes_of(trial.peak()),
                    seconds=training_time(trial.memory, trial.found).seconds,
                    keeps_result=True,
                )
        return None


def _largest(does_fit: Callable[[int], bool], most: int, least: int) -> int:
    """Return the largest number between *least* and *most* that fits, found by halving; 0 where *least* does not."""
    if most < least or not does_fit(least):
        return 0
    if does_fit(most):
        return most
    low, high = least, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if does_fit(middle) else (low, middle)
    return low
