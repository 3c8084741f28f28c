"""Which quantized checkpoints each kind of engine serves, on which hardware: rows for the catalog, and their reading.

The rows are about vLLM 0.32, SGLang 0.5.23 and LMDeploy 0.18. On a CPU they were tried; on accelerators they are from
the servers' own code (`get_min_capability` of their schemes, their lists of methods) and documentation. The standard
library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from engines.kinds import Precision, QuantizedRow, QuantizedSupport, Vendor
from engines.quantization import COMPRESSED, Quantization, Scheme


@dataclass(frozen=True, slots=True, kw_only=True)
class Silicon:
    """The hardware that a server would compute on; what is not known is None and refuses nothing."""

    vendor: Vendor | None = None
    """The maker of the accelerator; None is a CPU."""
    capability: tuple[int, int] | None = None
    """NVIDIA's compute capability."""
    architecture: str | None = None
    """AMD's name of the architecture."""

    @property
    def label(self) -> str:
        """The words by which messages name it."""
        return self.vendor.label if self.vendor else "a CPU"


PRECISION_OF: Final[Mapping[Scheme | None, Precision]] = {
    Scheme.W8A8_INT8: Precision.INT8,
    Scheme.W8A16: Precision.INT8,
    Scheme.W4A16: Precision.INT4,
    Scheme.FP8: Precision.FP8,
}
"""The name that settings and proofs have for the weights of a scheme."""
_INT4: Final = (COMPRESSED, "gptq", "awq")
_FLOAT8: Final = (COMPRESSED, "fp8")
_FP8_ARCHITECTURES: Final = ("gfx942", "gfx950")

OWN: Final = QuantizedRow(
    served=(
        QuantizedSupport(
            on=None,
            schemes={
                Scheme.W8A8_INT8: (COMPRESSED,),
                Scheme.W8A16: (COMPRESSED,),
                Scheme.W4A16: _INT4,
                Scheme.FP8: (COMPRESSED,),
            },
        ),
    ),
    widened=frozenset({Scheme.W8A16, Scheme.FP8}),
)
VLLM: Final = QuantizedRow(
    served=(
        QuantizedSupport(
            on=None,
            schemes={Scheme.W8A8_INT8: (COMPRESSED,)},
            no_adapters="with LoRA its server does not start on int8 weights of a CPU",
        ),
        QuantizedSupport(
            on=Vendor.NVIDIA,
            schemes={Scheme.W4A16: _INT4, Scheme.W8A16: (COMPRESSED,), Scheme.FP8: _FLOAT8},
            capability=(7, 5),
        ),
        QuantizedSupport(on=Vendor.NVIDIA, schemes={Scheme.W8A8_INT8: (COMPRESSED,)}, capability=(7, 5), below=(10, 0)),
        QuantizedSupport(on=Vendor.AMD, schemes={Scheme.W8A8_INT8: (COMPRESSED,), Scheme.W4A16: _INT4}),
        QuantizedSupport(on=Vendor.AMD, schemes={Scheme.FP8: _FLOAT8}, architectures=_FP8_ARCHITECTURES),
        QuantizedSupport(on=Vendor.ASCEND, schemes={Scheme.W8A8_INT8: (COMPRESSED,)}),
    ),
    obstacles={
        (Scheme.W4A16, None): (
            "its product with 4-bit weights (cpu_gemm_wna16) is there with AVX512 and in bf16 alone; otherwise the "
            "first request ends the server"
        ),
    },
)
SGLANG: Final = QuantizedRow(
    served=(
        QuantizedSupport(
            on=Vendor.NVIDIA,
            schemes={
                Scheme.W8A8_INT8: (COMPRESSED,),
                Scheme.W8A16: (COMPRESSED,),
                Scheme.W4A16: _INT4,
                Scheme.FP8: _FLOAT8,
            },
            capability=(8, 0),
        ),
        QuantizedSupport(on=Vendor.AMD, schemes={Scheme.W4A16: ("awq",)}),
        QuantizedSupport(on=Vendor.AMD, schemes={Scheme.FP8: _FLOAT8}, architectures=_FP8_ARCHITECTURES),
    ),
    obstacles=dict.fromkeys(
        ((scheme, None) for scheme in Scheme),
        "its products with quantized weights need AMX, and the stand-in that lets sglang run on another CPU has none",
    ),
)
LMDEPLOY: Final = QuantizedRow(
    served=(QuantizedSupport(on=Vendor.NVIDIA, schemes={Scheme.W4A16: ("awq",)}, capability=(7, 5)),),
    obstacles=dict.fromkeys(
        ((scheme, None) for scheme in Scheme),
        "the stand-in that lets lmdeploy run on a CPU has no quantized products",
    ),
)


def why_not_served(kind: str, row: QuantizedRow, found: Quantization, silicon: Silicon) -> str | None:
    """Return why engines of *kind* do not serve checkpoints that are quantized as *found* there; None where they do."""
    own = [support for support in row.served if support.on is silicon.vendor]
    listed = sorted({str(scheme) for support in own for scheme in support.schemes}) or ["full checkpoints"]
    if found.scheme is None or found.oddity:
        return f"{kind} on {silicon.label} does not serve {found.label}, only {', '.join(listed)}"
    if reason := row.obstacles.get((found.scheme, silicon.vendor)):
        return f"{kind} on {silicon.label} does not serve {found.label}: {reason}"
    of_scheme = [support for support in own if found.method in support.schemes.get(found.scheme, ())]
    if not of_scheme:
        return f"{kind} on {silicon.label} does not serve {found.label}, only {', '.join(listed)}"
    faults = [_hardware_fault(support, silicon) for support in of_scheme]
    return None if None in faults else f"{kind} does not serve {found.label} there: {faults[0]}"


def why_without_adapters(row: QuantizedRow, found: Quantization | None, vendor: Vendor | None) -> str:
    """Return why the kind of *row* has no adapters beside weights quantized as *found* there; empty where it has."""
    if found is None:
        return ""
    supports = [each for each in row.served if each.on is vendor and found.scheme in each.schemes]
    return next((each.no_adapters for each in supports if each.no_adapters), "")


def _hardware_fault(support: QuantizedSupport, silicon: Silicon) -> str | None:
    had = silicon.capability
    if had is not None and support.capability is not None and had < support.capability:
        return f"compute capability {_version(had)}, and it needs {_version(support.capability)}"
    if had is not None and support.below is not None and had >= support.below:
        return f"compute capability {_version(had)}, and the products are there below {_version(support.below)} alone"
    architecture = silicon.architecture
    if support.architectures and architecture and not architecture.startswith(support.architectures):
        return f"{architecture}, and it needs {' or '.join(support.architectures)}"
    return None


def _version(capability: tuple[int, int]) -> str:
    return ".".join(map(str, capability))
