"""What people ask an estimate for: a job's method and hyperparameters, and a device by name or by size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from engines.hardware.machine import Machine
from estimates.devices import ComputeDevice, bytes_of, known_device, own_device
from estimates.errors import EstimateError
from registry.contracts.fine_tune_spec import FineTuneSpec
from registry.contracts.hyperparameters import MethodOptions
from registry.contracts.job_kinds import FINE_TUNING_METHODS
from registry.errors import WeightsRefused

USUAL_ROWS: Final = 1000
"""Rows of a training file that nobody named."""
USUAL_LENGTH: Final = 512
"""Tokens of its rows."""
ANY_GRADER: Final[Mapping[str, Any]] = {
    "type": "string_check",
    "name": "any",
    "input": "{{sample.output_text}}",
    "reference": "any",
    "operation": "eq",
}
"""A grader for estimates that name none; graders that ask no model take no memory worth counting."""


def job_spec(method: str, options: MethodOptions, rows: int) -> FineTuneSpec:
    """Return the spec of a job as a request would make it; `EstimateError` for what no job can be asked for."""
    kind = FINE_TUNING_METHODS[method]
    fields = kind.resolve(options, rows)
    spec = kind(base="model", base_digest="0" * 64, adapter="estimate", seed=0, training_file="file-0", **fields)
    try:
        spec.parallel.check(spec.batch_size, spec.weights, spec.lora)
    except WeightsRefused as exc:
        raise EstimateError(str(exc), "hyperparameters") from exc
    micro = spec.weights.micro_batch_size
    if micro is not None and spec.batch_size % micro != 0:
        raise EstimateError(
            f"micro_batch_size {micro} does not divide the batch_size {spec.batch_size}", "hyperparameters"
        )
    return spec


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedDevice:
    """The device that an estimate is for; without a name the machine's own."""

    name: str | None = None
    memory: str | None = None
    """A size such as 24GiB, in place of the device's own memory."""

    def on(self, machine: Machine, threads: int) -> ComputeDevice:
        """Return the device; *machine* and *threads* are those of this machine's jobs."""
        device = own_device(machine, threads) if self.name is None else known_device(self.name)
        return device if self.memory is None else replace(device, memory_bytes=bytes_of(self.memory))
