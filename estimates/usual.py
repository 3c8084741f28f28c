"""The values that an estimate assumes where people give none, and the device that they name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from engines.hardware.machine import Machine
from estimates.devices import ComputeDevice, bytes_of, known_device, own_device

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
