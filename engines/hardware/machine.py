"""The hardware of a machine, as far as serving depends on it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from engines.kinds import Vendor

GB: Final = 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """An accelerator."""

    vendor: Vendor
    name: str
    memory_bytes: int
    used_bytes: int = 0
    """Bytes in use now; shown, not subtracted."""
    capability: tuple[int, int] | None = None
    """NVIDIA's compute capability."""
    architecture: str | None = None
    """AMD's name of the architecture, such as `gfx942`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Processor:
    """The CPU and its memory."""

    name: str
    cores: int
    memory_bytes: int
    """Bytes that this process may use: the machine's memory, or the cgroup's limit."""
    flags: frozenset[str] = frozenset()
    """The processor's flags among `KNOWN_FLAGS`, as Linux spells them."""

    @property
    def is_fast_in_bf16(self) -> bool:
        """Whether the processor has instructions for bfloat16; without them bfloat16 is slower than float32."""
        return bool({"avx512_bf16", "amx_bf16"} & self.flags)


KNOWN_FLAGS: Final = (
    "avx2",
    "avx512f",
    "avx512_bf16",
    "avx512_vnni",
    "amx_tile",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "sve",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A machine: its processor, its accelerators, and what could not be read."""

    processor: Processor
    devices: tuple[Device, ...] = ()
    remarks: tuple[str, ...] = ()
    """A sentence for each tool that is there and did not answer as expected."""

    def largest_group(self) -> tuple[Device, ...]:
        """Return the devices that are alike and have most memory together: a model is never spread over unlike ones."""
        groups = alike(self.devices)
        return max(groups, key=lambda group: sum(device.memory_bytes for device in group), default=())


def alike(devices: Iterable[Device]) -> list[tuple[Device, ...]]:
    """Group the devices by vendor, name and memory."""

    def kind(device: Device) -> tuple[str, str, int]:
        return device.vendor, device.name, device.memory_bytes

    return [tuple(group) for _, group in groupby(sorted(devices, key=kind), key=kind)]
