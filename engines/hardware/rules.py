"""What each engine can do on each kind of machine: the facts that a choice rests on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from engines.hardware.machine import Device, Processor, Vendor
from engines.hardware.shape import ModelShape
from engines.hardware.wishes import Wishes, Workload
from engines.settings import Precision

KINDS: Final = ("transformers", "vllm", "sglang", "lmdeploy")
OWN_MODEL_TYPES: Final = frozenset({"llama", "mistral", "qwen2", "qwen3"})
"""`model_type`s that the transformers engine serves."""
LEAST_CAPABILITY: Final = (7, 5)
"""NVIDIA's oldest compute capability that the pinned builds (CUDA 13) run on."""
FOUR_BIT_FORMATS: Final = {"awq": "awq", "gptq": "gptq"}
"""Quantization methods that TurboMind reads, and what it calls them."""
FP8_ARCHITECTURES: Final = ("gfx942", "gfx950")

_FP16_ONLY_ASCEND: Final = "310P"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an engine would run: on devices that are alike, or on the processor when there are none."""

    devices: tuple[Device, ...]
    processor: Processor

    @property
    def vendor(self) -> Vendor | None:
        """Of the devices; None on the processor."""
        return self.devices[0].vendor if self.devices else None

    @property
    def name(self) -> str:
        """As people call it."""
        return self.devices[0].name if self.devices else "the CPU"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An engine on a place, best first, and why it is considered."""

    kind: str
    place: Place
    why: str
    is_turbomind: bool = False
    """Whether it is LMDeploy by its TurboMind library, which is made for 4 bits and has no adapters."""


_THROUGHPUT: Final = "vllm: most tokens a second on {vendor}, with different adapters in one batch"
_PREFIXES: Final = "sglang: its radix cache keeps what requests have in common, and prefixes are shared heavily here"
_STRUCTURED: Final = "sglang: answers held to a grammar dominate, which it decodes fastest"
_TURBOMIND: Final = (
    "lmdeploy: its TurboMind library is made for 4-bit weights; without adapters, which it does not have"
)
_DOMESTIC: Final = "lmdeploy: it serves {vendor} by its device plugin; base model only, its LoRA is for CUDA alone"
_ASCEND_ADAPTERS: Final = "vllm: adapters on Ascend, by its vllm-ascend plugin; LMDeploy has none there"
_OWN: Final = "transformers: Lorry's own engine needs no environment and starts fastest on a CPU"
_IDLE: Final = "transformers: on the CPU, as no engine can use the accelerator now"
_BEYOND_OWN: Final = "vllm: on a CPU, for models that Lorry's own engine does not serve"
_WISHED: Final = "{kind}: it was asked for"
_STAND_IN: Final = "{kind}: it was asked for; on a CPU it runs with a stand-in for its kernels, for tests alone"
_WITH_STAND_IN: Final = ("sglang", "lmdeploy")


def candidates(
    accelerators: tuple[Device, ...], processor: Processor, model: ModelShape, wishes: Wishes
) -> list[Candidate]:
    """Engines to try in turn: those for the accelerators, then those for the processor."""
    cpu = Place(devices=(), processor=processor)
    there = Place(devices=accelerators, processor=processor)
    if wishes.kind is not None:
        place = cpu if wishes.kind == "transformers" else there
        if wishes.kind == "lmdeploy" and _suits_turbomind(place, model, wishes):
            return [_turbomind(place)]
        why = _STAND_IN if place.vendor is None and wishes.kind in _WITH_STAND_IN else _WISHED
        return [Candidate(kind=wishes.kind, place=place, why=why.format(kind=wishes.kind))]
    if accelerators:
        return [*_on_accelerators(there, model, wishes), Candidate(kind="transformers", place=cpu, why=_IDLE)]
    return [
        Candidate(kind="transformers", place=cpu, why=_OWN),
        Candidate(kind="vllm", place=cpu, why=_BEYOND_OWN),
    ]


def _on_accelerators(place: Place, model: ModelShape, wishes: Wishes) -> list[Candidate]:
    vendor = place.vendor
    if vendor in {Vendor.NVIDIA, Vendor.AMD}:
        why = _STRUCTURED if wishes.workload is Workload.STRUCTURED else _PREFIXES
        throughput = Candidate(kind="vllm", place=place, why=_THROUGHPUT.format(vendor=vendor.upper()))
        prefixes = Candidate(kind="sglang", place=place, why=why)
        ordered = [throughput] if wishes.workload is Workload.MIXED else [prefixes, throughput]
        return [_turbomind(place), *ordered] if _suits_turbomind(place, model, wishes) else ordered
    if vendor is Vendor.ASCEND and wishes.adapters:
        return [Candidate(kind="vllm", place=place, why=_ASCEND_ADAPTERS)]
    if vendor in {Vendor.ASCEND, Vendor.METAX, Vendor.CAMBRICON}:
        return [Candidate(kind="lmdeploy", place=place, why=_DOMESTIC.format(vendor=vendor.capitalize()))]
    return []


def _turbomind(place: Place) -> Candidate:
    return Candidate(kind="lmdeploy", place=place, why=_TURBOMIND, is_turbomind=True)


def _suits_turbomind(place: Place, model: ModelShape, wishes: Wishes) -> bool:
    four_bits = model.quantization in FOUR_BIT_FORMATS and model.stored_bits == 4
    return place.vendor is Vendor.NVIDIA and four_bits and wishes.adapters == 0


def obstacle(candidate: Candidate, model: ModelShape, wishes: Wishes) -> str | None:
    """Why the engine cannot serve the model there at all, whatever the sizes; None when it can."""
    kind, place = candidate.kind, candidate.place
    if kind not in KINDS:
        return f"{kind!r} is not one of {', '.join(KINDS)}"
    if kind == "transformers":
        return _own_obstacle(model)
    if place.vendor is None:
        problem = _processor_obstacle(kind, place.processor, model)
    else:
        problem = _device_obstacle(kind, place, wishes)
    return problem or _environment_obstacle(kind, str(place.vendor or "cpu"), wishes)


def _environment_obstacle(kind: str, variant: str, wishes: Wishes) -> str | None:
    if wishes.ready is None or (kind, variant) in wishes.ready:
        return None
    return f"its environment is not installed: `lorry envs install {kind} --variant {variant}`"


def _own_obstacle(model: ModelShape) -> str | None:
    if model.model_type not in OWN_MODEL_TYPES:
        return f"it serves {', '.join(sorted(OWN_MODEL_TYPES))}, not {model.model_type}"
    if model.quantization is not None:
        return f"it serves float32 alone, not {model.quantization} weights"
    return None


def _processor_obstacle(kind: str, processor: Processor, model: ModelShape) -> str | None:
    if model.quantization is None:
        return None
    if kind in _WITH_STAND_IN:
        return f"the stand-in that lets {kind} run on a CPU has no quantized products"
    if model.stored_bits == 4 and "avx512f" not in processor.flags:
        return f"on a CPU without AVX512 {kind} has no product with 4-bit weights"
    return f"Lorry starts {kind} on a CPU in fp32 and bf16 alone, not with quantized weights"


def _device_obstacle(kind: str, place: Place, wishes: Wishes) -> str | None:
    device = place.devices[0]
    if device.vendor is Vendor.APPLE:
        return "no build of it is made for Apple's GPUs"
    if device.vendor in {Vendor.METAX, Vendor.CAMBRICON}:
        if kind != "lmdeploy":
            return f"Lorry has no way to start it on {device.vendor.capitalize()}"
        return f"LMDeploy 0.18.0, which is pinned, fails at its first step on {device.vendor.capitalize()}"
    if device.capability is not None and device.capability < LEAST_CAPABILITY:
        had, needed = (".".join(map(str, version)) for version in (device.capability, LEAST_CAPABILITY))
        return f"{device.name} has compute capability {had}, the pinned builds need {needed}"
    if kind == "lmdeploy" and device.vendor is not Vendor.NVIDIA and wishes.adapters:
        return "LMDeploy has LoRA on CUDA alone"
    return None


@dataclass(frozen=True, slots=True)
class PrecisionOption:
    """A precision that an engine offers on a place."""

    precision: Precision
    why: str
    """Why it is taken when nothing else was asked for."""
    is_asked_for: bool = False
    """Whether it is taken only when it was asked for."""


def precisions(candidate: Candidate, model: ModelShape) -> list[PrecisionOption]:
    """What can be had there, in the order in which they are tried."""
    if model.quantization is not None and model.stored_bits == 4:
        return [PrecisionOption(Precision.INT4, f"the checkpoint holds 4-bit weights ({model.quantization})")]
    if model.quantization == "fp8":
        return [PrecisionOption(Precision.FP8, "the checkpoint holds 8-bit floats")]
    if candidate.place.vendor is None:
        return _processor_precisions(candidate)
    return _device_precisions(candidate, model)


def _processor_precisions(candidate: Candidate) -> list[PrecisionOption]:
    if candidate.kind in {"transformers", "lmdeploy"}:
        return [PrecisionOption(Precision.FP32, "the only one that it computes in on a CPU")]
    if candidate.place.processor.is_fast_in_bf16:
        return [PrecisionOption(Precision.BF16, "this CPU has instructions for it"), _asked_for(Precision.FP32)]
    why = "a CPU without instructions for bf16 is 5 to 8 times slower in that"
    return [PrecisionOption(Precision.FP32, why), _asked_for(Precision.BF16)]


def _device_precisions(candidate: Candidate, model: ModelShape) -> list[PrecisionOption]:
    device = candidate.place.devices[0]
    single = [] if candidate.kind == "lmdeploy" else [_asked_for(Precision.FP32)]
    if _lacks_bf16(device):
        return [PrecisionOption(Precision.FP16, f"{device.name} has no bf16"), *single]
    if model.stored_type == "F16":
        found = [PrecisionOption(Precision.FP16, "the checkpoint's own")]
        other = _asked_for(Precision.BF16)
    else:
        found = [PrecisionOption(Precision.BF16, f"16 bits that {device.name} computes in, with the range of 32")]
        other = _asked_for(Precision.FP16)
    if candidate.kind in {"vllm", "sglang"} and _has_fp8(device):
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


def has_adapters(candidate: Candidate) -> bool:
    """Whether the engine serves adapters there."""
    if candidate.is_turbomind:
        return False
    return candidate.kind != "lmdeploy" or candidate.place.vendor in {Vendor.NVIDIA, None}
