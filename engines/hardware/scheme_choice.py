"""Which scheme of quantization suits a machine and its use. Pure.

The thresholds are those of llm-compressor's guide "Choosing a scheme": W4A16 and INT8 from compute capability 7.5, FP8
from 8.9. FP8 is preferred from 9.0 on (Hopper).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from engines.catalog import ENGINES, kind_of
from engines.errors import DoesNotFit
from engines.hardware.machine import Device, Machine
from engines.kinds import Vendor
from engines.quantization import COMPRESSED, Quantization, Scheme
from engines.quantized_support import Silicon, why_not_served

TURING: Final = (7, 5)
AMPERE: Final = (8, 0)
HOPPER: Final = (9, 0)


class Use(StrEnum):
    """How the requests come."""

    ONLINE = "online"  # one by one, with changing lengths
    BATCH = "batch"  # fixed work in large batches


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemeChoice:
    """A scheme and the reason for it."""

    scheme: str
    why: str


_STORED_AS: Final[Mapping[str, Scheme]] = {
    "w4a16-gptq": Scheme.W4A16,
    "w4a16-awq": Scheme.W4A16,
    "w8a8-int8": Scheme.W8A8_INT8,
    "fp8": Scheme.FP8,
}
"""Scheme of a folder in the format of compressed-tensors -> the numbers that it holds; GGUF is not among them."""
_BY_USE: Final[Mapping[Use, SchemeChoice]] = {
    Use.BATCH: SchemeChoice(
        scheme="w4a16-gptq", why="for fixed batch work 4-bit weights by GPTQ compress most, without zero points"
    ),
    Use.ONLINE: SchemeChoice(
        scheme="w4a16-awq",
        why="for online traffic with changing lengths 4-bit weights by AWQ keep the channels that matter most",
    ),
}


def choose_scheme(machine: Machine, use: Use, pools: Mapping[str, str]) -> SchemeChoice:
    """Return the scheme for *pools* (name -> kind of engine) on *machine*; without pools that for the machine itself.

    `DoesNotFit` where two pools need different schemes, or a device computes in none of them.
    """
    if not pools:
        return _for_device(_device(machine, None), use)
    found = {name: _for_device(_device(machine, kind), use) for name, kind in sorted(pools.items())}
    schemes = {choice.scheme for choice in found.values()}
    if len(schemes) > 1:
        each = ", ".join(f"{name} {choice.scheme} ({choice.why})" for name, choice in found.items())
        raise DoesNotFit(f"the pools suit different schemes: {each}; name the scheme, or quantize for each pool")
    choice = next(iter(found.values()))
    return SchemeChoice(scheme=choice.scheme, why=f"{choice.why}, for {', '.join(found)}")


def refusals(scheme: str, machine: Machine) -> dict[str, str | None]:
    """Return for each kind of engine why its servers on *machine* do not serve a *scheme*; None where they do."""
    return {kind: why_refused(kind, scheme, machine) for kind in ENGINES}


def why_refused(kind: str, scheme: str, machine: Machine) -> str | None:
    """Return why servers of *kind* on *machine* do not serve a checkpoint of *scheme*; None where they do."""
    if scheme not in _STORED_AS:
        return f"{kind} serves no GGUF files"
    device = _device(machine, kind)
    silicon = (
        Silicon()
        if device is None
        else Silicon(vendor=device.vendor, capability=device.capability, architecture=device.architecture)
    )
    found = Quantization(method=COMPRESSED, scheme=_STORED_AS[scheme])
    return why_not_served(kind, kind_of(kind).quantized, found, silicon)


def _device(machine: Machine, kind: str | None) -> Device | None:
    """Return the accelerator that engines of *kind* would compute on; None for the processor."""
    group = machine.largest_group()
    if not group or (kind is not None and group[0].vendor not in kind_of(kind).hardware.vendors):
        return None
    return group[0]


def _for_device(device: Device | None, use: Use) -> SchemeChoice:
    if device is None:
        return SchemeChoice(scheme="w8a8-int8", why="a processor multiplies 8-bit integers faster than floats")
    if device.vendor is not Vendor.NVIDIA or device.capability is None:
        return _BY_USE[use]
    if device.capability < TURING:
        raise DoesNotFit(
            f"{device.name} has compute capability {_text(device.capability)}; engines compute with quantized weights "
            f"from {_text(TURING)} on"
        )
    if device.capability < AMPERE:
        return SchemeChoice(
            scheme="w8a8-int8", why=f"{device.name} (Turing) computes in 8-bit integers, and not in FP8"
        )
    if device.capability >= HOPPER:
        return SchemeChoice(scheme="fp8", why=f"{device.name} (Hopper or newer) computes in FP8, which loses least")
    return _BY_USE[use]


def _text(capability: tuple[int, int]) -> str:
    return ".".join(map(str, capability))
