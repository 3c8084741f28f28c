"""The rules for what each engine can do on a machine, by its row in the catalog and the devices. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from engines.base_task import BaseTask
from engines.catalog import ENGINES, kind_of
from engines.errors import DoesNotFit
from engines.hardware.machine import Device, Processor
from engines.hardware.shape import ModelShape
from engines.hardware.wishes import Wishes
from engines.kinds import EngineKind, FourBitMode, HardwareSupport, Precision, Preference, Vendor
from engines.quantization import Scheme
from engines.quantized_support import PRECISION_OF, Silicon, why_not_served, why_without_adapters

LEAST_CAPABILITY: Final = (7, 5)
"""NVIDIA's oldest compute capability that the pinned builds (CUDA 13) run on."""
FP8_ARCHITECTURES: Final = ("gfx942", "gfx950")

_FP16_ONLY_ASCEND: Final = "310P"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The place where an engine would run: on devices that are alike, or on the processor when there are none."""

    devices: tuple[Device, ...]
    processor: Processor

    @property
    def vendor(self) -> Vendor | None:
        """Return the maker of the devices; None on the processor."""
        return self.devices[0].vendor if self.devices else None

    @property
    def name(self) -> str:
        """Return the name that people give the place."""
        return self.devices[0].name if self.devices else "the CPU"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An engine on a place, best first, and why it is considered."""

    kind: str
    place: Place
    why: str
    four_bit: FourBitMode | None = None
    """The mode for 4-bit weights that the engine is to run in; None is its usual one."""

    @property
    def row(self) -> EngineKind:
        """Return the kind's row in the catalog."""
        return kind_of(self.kind)


_WISHED: Final = "it was asked for"
_STAND_IN: Final = "it was asked for; on a CPU it runs with a stand-in for its kernels, for tests alone"


def candidates(
    accelerators: tuple[Device, ...], processor: Processor, model: ModelShape, wishes: Wishes
) -> list[Candidate]:
    """Return the engines to try in turn; `DoesNotFit` for a wished kind that does not exist."""
    machine = Place(devices=accelerators, processor=processor)
    if wishes.kind is None:
        kinds = ENGINES.keys()
        four_bit = [found for kind in kinds for found in _in_four_bits(kind, machine, model, wishes)]
        ranked = [found for kind in kinds for found in _preferred(kind, machine, wishes)]
        return [*four_bit, *(candidate for _, candidate in sorted(ranked, key=lambda found: found[0]))]
    if wishes.kind not in ENGINES:
        raise DoesNotFit(f"{wishes.kind!r} is not one of {', '.join(ENGINES)}")
    return _in_four_bits(wishes.kind, machine, model, wishes) or [_wished(wishes.kind, machine)]


def _wished(kind: str, machine: Place) -> Candidate:
    place = _place_of(kind, machine)
    stands_in = place.vendor is None and kind_of(kind).hardware.has_cpu_stand_in
    return Candidate(kind=kind, place=place, why=f"{kind}: {_STAND_IN if stands_in else _WISHED}")


def _preferred(kind: str, machine: Place, wishes: Wishes) -> list[tuple[int, Candidate]]:
    """Return the kind with its rank for each of its preferences that hold on this machine."""
    return [
        (preference.rank, Candidate(kind=kind, place=_place_of(kind, machine), why=_reason(kind, preference, machine)))
        for preference in kind_of(kind).hardware.preferences
        if machine.vendor in preference.on
        and wishes.workload in preference.workloads
        and preference.adapters in {None, bool(wishes.adapters)}
    ]


def _reason(kind: str, preference: Preference, machine: Place) -> str:
    vendor = machine.vendor.label if machine.vendor else ""
    return f"{kind}: {preference.why.format(vendor=vendor)}"


def _place_of(kind: str, machine: Place) -> Place:
    """Return where the kind would run: on the processor if no accelerator is for it."""
    return machine if kind_of(kind).hardware.vendors else Place(devices=(), processor=machine.processor)


def _in_four_bits(kind: str, machine: Place, model: ModelShape, wishes: Wishes) -> list[Candidate]:
    """Return the kind in its mode for 4-bit weights, if it has one that suits model and machine."""
    mode = kind_of(kind).hardware.four_bit
    if mode is None or machine.vendor not in mode.vendors or wishes.adapters != 0:
        return []
    found = model.quantization
    if found is None or found.scheme is not Scheme.W4A16 or found.oddity or found.method not in mode.formats:
        return []
    return [Candidate(kind=kind, place=machine, why=f"{kind}: {mode.why}", four_bit=mode)]


def obstacle(candidate: Candidate, model: ModelShape, wishes: Wishes) -> str | None:
    """Return why the engine cannot serve the model there at all, whatever the sizes; None when it can."""
    kind, place = candidate.kind, candidate.place
    if problem := _model_obstacle(candidate.row, model):
        return problem
    problem = _device_obstacle(candidate.row.hardware, place.devices[0], wishes) if place.devices else None
    problem = problem or _quantized_obstacle(candidate, model)
    if problem or candidate.row.environment is None:
        return problem
    return _environment_obstacle(kind, str(place.vendor or "cpu"), wishes)


def _environment_obstacle(kind: str, variant: str, wishes: Wishes) -> str | None:
    if wishes.ready is None or (kind, variant) in wishes.ready:
        return None
    return f"its environment is not installed: `lorry envs install {kind} --variant {variant}`"


def _model_obstacle(row: EngineKind, model: ModelShape) -> str | None:
    if model.task is not BaseTask.GENERATE and row.encoder_arguments is None:
        return f"it serves models that generate text, not one to {model.task} texts"
    if row.model_types is not None and model.model_type not in row.model_types:
        return f"it serves {', '.join(sorted(row.model_types))}, not {model.model_type}"
    return None


def _quantized_obstacle(candidate: Candidate, model: ModelShape) -> str | None:
    found, place = model.quantization, candidate.place
    if found is None or candidate.four_bit is not None:
        return None
    if model.task is not BaseTask.GENERATE and place.vendor is None:
        return f"quantized models to {model.task} texts are served on no CPU"
    first = place.devices[0] if place.devices else None
    silicon = Silicon(
        vendor=place.vendor,
        capability=first.capability if first else None,
        architecture=first.architecture if first else None,
    )
    return why_not_served(candidate.kind, candidate.row.quantized, found, silicon)


def _device_obstacle(support: HardwareSupport, device: Device, wishes: Wishes) -> str | None:
    if device.vendor is Vendor.APPLE:
        return "no build of it is made for Apple's GPUs"
    if device.vendor in support.obstacles:
        return support.obstacles[device.vendor]
    if device.vendor not in support.vendors:
        return f"Lorry has no way to start it on {device.vendor.label}"
    if device.capability is not None and device.capability < LEAST_CAPABILITY:
        had, needed = (".".join(map(str, version)) for version in (device.capability, LEAST_CAPABILITY))
        return f"{device.name} has compute capability {had}, the pinned builds need {needed}"
    return support.adapter_obstacles.get(device.vendor) if wishes.adapters else None


@dataclass(frozen=True, slots=True)
class PrecisionOption:
    """A precision that an engine offers on a place."""

    precision: Precision
    why: str
    """Why it is taken when nothing else was asked for."""
    is_asked_for: bool = False
    """Whether it is taken only when it was asked for."""


def precisions(candidate: Candidate, model: ModelShape) -> list[PrecisionOption]:
    """Return the precisions that the engine offers there, in the order in which they are tried."""
    if model.quantization is not None:
        precision = PRECISION_OF.get(model.quantization.scheme, Precision.INT4)
        return [PrecisionOption(precision, f"the checkpoint holds {model.quantization.label}")]
    if candidate.place.vendor is None:
        return _processor_precisions(candidate)
    return _device_precisions(candidate, model)


def _processor_precisions(candidate: Candidate) -> list[PrecisionOption]:
    if candidate.row.hardware.cpu_precisions == (Precision.FP32,):
        return [PrecisionOption(Precision.FP32, "the only one that it computes in on a CPU")]
    if candidate.place.processor.is_fast_in_bf16:
        return [PrecisionOption(Precision.BF16, "this CPU has instructions for it"), _asked_for(Precision.FP32)]
    why = "a CPU without instructions for bf16 is 5 to 8 times slower in that"
    return [PrecisionOption(Precision.FP32, why), _asked_for(Precision.BF16)]


def _device_precisions(candidate: Candidate, model: ModelShape) -> list[PrecisionOption]:
    device = candidate.place.devices[0]
    possible = candidate.row.hardware.device_precisions
    single = [_asked_for(Precision.FP32)] if Precision.FP32 in possible else []
    if _lacks_bf16(device):
        return [PrecisionOption(Precision.FP16, f"{device.name} has no bf16"), *single]
    if model.stored_type == "F16":
        found = [PrecisionOption(Precision.FP16, "the checkpoint's own")]
        other = _asked_for(Precision.BF16)
    else:
        found = [PrecisionOption(Precision.BF16, f"16 bits that {device.name} computes in, with the range of 32")]
        other = _asked_for(Precision.FP16)
    if Precision.FP8 in possible and _has_fp8(device):
        found.append(PrecisionOption(Precision.FP8, f"16 bits do not fit, and {device.name} computes in 8"))
    return [*found, other, *single]


def _asked_for(precision: Precision) -> PrecisionOption:
    return PrecisionOption(precision, "it was asked for", is_asked_for=True)


def _lacks_bf16(device: Device) -> bool:
    if device.vendor is Vendor.ASCEND:
        return _FP16_ONLY_ASCEND in device.name
    return device.capability is not None and device.capability < (8, 0)


def _has_fp8(device: Device) -> bool:
    if device.vendor is Vendor.AMD:
        return device.architecture is not None and device.architecture.startswith(FP8_ARCHITECTURES)
    return device.capability is not None and device.capability >= (8, 9)


def has_adapters(candidate: Candidate, model: ModelShape) -> bool:
    """Whether the engine serves adapters of the model there."""
    vendor = candidate.place.vendor
    if model.task is not BaseTask.GENERATE:
        return False
    if why_without_adapters(candidate.row.quantized, model.quantization, vendor):
        return False
    return candidate.four_bit is None and (vendor is None or vendor not in candidate.row.hardware.adapter_obstacles)


def why_no_adapters(model: ModelShape) -> str:
    """Return why there are none where `has_adapters` denies them."""
    if model.task is BaseTask.GENERATE:
        return "it serves no adapters there"
    return f"a model to {model.task} texts has no adapters"
