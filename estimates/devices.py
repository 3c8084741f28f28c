"""The devices that an estimate is made for: this machine's own, a known GPU by its name, or so much memory."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from engines.hardware.machine import Device, Machine, Processor
from engines.kinds import Vendor
from estimates.errors import EstimateError

GIB: Final = 1024**3
MIB: Final = 1024**2
_TERA: Final = 10**12
_GIGA: Final = 10**9
PROCESSOR_SHARE: Final = 0.8
"""Share of a machine's memory that a job may take; the rest is for Lorry's processes and for the system."""
DEVICE_SHARE: Final = 0.95
"""Share of an accelerator's memory that a process gets: the driver, and fragments that fit nothing, take the rest."""
CYCLES_A_SECOND: Final = 2.5e9
"""Clock of a core that reports none, as of most machines in data centres under load."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeDevice:
    """A device that trains or serves."""

    name: str
    memory_bytes: int
    flops: float
    """Operations a second on matrices in the type that training computes in, as the maker gives them."""
    bandwidth: float = 2e10
    """Bytes a second between the device and its memory, as the maker gives them; 20 GB/s for a core or two."""
    is_processor: bool = False
    has_bf16: bool = True
    count: int = 1
    """How many alike are there."""
    capability: tuple[int, int] | None = None
    vendor: Vendor = Vendor.NVIDIA
    architecture: str | None = None
    """AMD's name of the architecture."""

    @property
    def usable_bytes(self) -> int:
        """Return the bytes that a job may take."""
        return int(self.memory_bytes * (PROCESSOR_SHARE if self.is_processor else DEVICE_SHARE))

    def machine(self, processor: Processor) -> Machine:
        """Return a machine with these devices, as the choice of an engine takes it."""
        if self.is_processor:
            return Machine(processor=replace(processor, memory_bytes=self.memory_bytes))
        device = Device(
            vendor=self.vendor,
            name=self.name,
            memory_bytes=self.memory_bytes,
            capability=self.capability,
            architecture=self.architecture,
        )
        return Machine(processor=processor, devices=(device,) * self.count)


def _nvidia(name: str, mib: int, speed: tuple[float, float], capability: tuple[int, int]) -> ComputeDevice:
    """Memory in MiB as `nvidia-smi` reports it.

    *speed*: tera operations a second of dense 16-bit products, and GB a second of the memory, by the data sheet.
    """
    return ComputeDevice(
        name=name,
        memory_bytes=mib * MIB,
        flops=speed[0] * _TERA,
        bandwidth=speed[1] * _GIGA,
        has_bf16=capability >= (8, 0),
        capability=capability,
    )


KNOWN_DEVICES: Final[Mapping[str, ComputeDevice]] = {
    "t4": _nvidia("NVIDIA T4", 15360, (65, 320), (7, 5)),
    "v100-32": _nvidia("NVIDIA V100 32GB", 32768, (125, 900), (7, 0)),
    "a10": _nvidia("NVIDIA A10", 23028, (125, 600), (8, 6)),
    "l4": _nvidia("NVIDIA L4", 23034, (121, 300), (8, 9)),
    "rtx3090": _nvidia("NVIDIA RTX 3090", 24576, (71, 936), (8, 6)),
    "rtx4090": _nvidia("NVIDIA RTX 4090", 24564, (165, 1008), (8, 9)),
    "rtx5090": _nvidia("NVIDIA RTX 5090", 32607, (210, 1792), (12, 0)),
    "a6000": _nvidia("NVIDIA RTX A6000", 49140, (155, 768), (8, 6)),
    "l40s": _nvidia("NVIDIA L40S", 46068, (362, 864), (8, 9)),
    "a100-40": _nvidia("NVIDIA A100 40GB", 40960, (312, 1555), (8, 0)),
    "a100-80": _nvidia("NVIDIA A100 80GB", 81920, (312, 2039), (8, 0)),
    "h100": _nvidia("NVIDIA H100 80GB", 81559, (989, 3350), (9, 0)),
    "h200": _nvidia("NVIDIA H200", 143771, (989, 4800), (9, 0)),
    "b200": _nvidia("NVIDIA B200", 183359, (2250, 8000), (10, 0)),
    "mi300x": ComputeDevice(
        name="AMD MI300X",
        memory_bytes=196592 * MIB,
        flops=1307 * _TERA,
        bandwidth=5300 * _GIGA,
        vendor=Vendor.AMD,
        architecture="gfx942",
    ),
}
"""Name on the command line -> device."""
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(GiB|GB|MiB|MB|TiB|TB)", re.IGNORECASE)
_UNITS: Final[Mapping[str, int]] = {
    "mb": 10**6,
    "mib": MIB,
    "gb": _GIGA,
    "gib": GIB,
    "tb": _TERA,
    "tib": 1024 * GIB,
}


def known_device(name: str) -> ComputeDevice:
    """Return the device called *name*, of which `4xh100` has four; `EstimateError` lists the names."""
    many = re.fullmatch(r"(\d{1,3})x(.+)", name.lower())
    count, plain = (many[1], many[2]) if many else ("1", name.lower())
    if plain not in KNOWN_DEVICES or not 0 < int(count) <= 64:
        known = ", ".join(KNOWN_DEVICES)
        raise EstimateError(
            f"device {name[:40]!r} is not one of {known}, with 2x to 64x before it for several", "device"
        )
    return replace(KNOWN_DEVICES[plain], count=int(count))


def bytes_of(text: str) -> int:
    """Return the bytes of a size such as `24GiB` or `80 GB`; `EstimateError` for what is none."""
    found = _SIZE.fullmatch(text.strip())
    size = int(float(found[1]) * _UNITS[found[2].lower()]) if found else 0
    if not 0 < size < 2**60:
        raise EstimateError(f"memory {text[:40]!r} is not a size such as 24GiB or 80GB", "memory")
    return size


def with_memory(device: ComputeDevice, size: int) -> ComputeDevice:
    """Return *device* with another size of memory."""
    return replace(device, memory_bytes=size)


def own_device(machine: Machine, threads: int, clock_hz: float | None = None) -> ComputeDevice:
    """Return the device of *machine* on which a job trains: its accelerators if it has any, else *threads* cores.

    A core does two products with additions a cycle on vectors of 512 or 256 bits of numbers of 32 bits, which is 64 or
    32 operations (Intel 64 and IA-32 Architectures Optimization Reference Manual, section on FMA), or 8 without AVX2.
    """
    group = machine.largest_group()
    if group and group[0].vendor is not Vendor.APPLE:
        return replace(_accelerator(group[0]), count=len(group))
    flags = machine.processor.flags
    operations = 64 if "avx512f" in flags else 32 if "avx2" in flags else 8
    return ComputeDevice(
        name=machine.processor.name or "processor",
        memory_bytes=machine.processor.memory_bytes,
        flops=operations * (clock_hz or CYCLES_A_SECOND) * min(threads, machine.processor.cores),
        is_processor=True,
        has_bf16=machine.processor.is_fast_in_bf16,
    )


def _accelerator(device: Device) -> ComputeDevice:
    """Return a device that was found, with the speed of the known one whose name it has, else of an A10."""
    spoken = re.sub(r"[^a-z0-9]", "", device.name.lower())
    named = [known for key, known in KNOWN_DEVICES.items() if re.sub(r"[^a-z0-9]", "", key.split("-")[0]) in spoken]
    like = max(named, key=lambda known: known.flops, default=KNOWN_DEVICES["a10"])
    return ComputeDevice(
        name=device.name,
        memory_bytes=device.memory_bytes,
        flops=like.flops,
        bandwidth=like.bandwidth,
        has_bf16=device.capability is None or device.capability >= (8, 0),
        capability=device.capability,
        vendor=device.vendor,
        architecture=device.architecture,
    )
