"""The fields of a row of `engines.catalog`: all that is known of a kind of engine. Light to import."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from engines.quantization import Scheme

DEFAULT_KIND: Final = "transformers"
"""The kind of engine that is served where nobody chose one; nothing needs to be installed for it."""


class Hardware(StrEnum):
    """Hardware that a server computes on."""

    CPU = "cpu"
    NVIDIA = "nvidia"
    AMD = "amd"
    ASCEND = "ascend"


class Vendor(StrEnum):
    """The maker of an accelerator."""

    NVIDIA = "nvidia"
    AMD = "amd"
    ASCEND = "ascend"
    METAX = "metax"
    CAMBRICON = "cambricon"
    APPLE = "apple"

    @property
    def label(self) -> str:
        """The name as people write it."""
        return self.upper() if self in {Vendor.NVIDIA, Vendor.AMD} else self.capitalize()


class Precision(StrEnum):
    """Numbers that weights are held in."""

    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"
    FP8 = "fp8"  # quantized while loading
    INT8 = "int8"  # the base model's folder holds 8-bit weights
    INT4 = "int4"  # the base model's folder holds 4-bit weights


class Workload(StrEnum):
    """The usual kind of requests."""

    MIXED = "mixed"
    SHARED_PREFIXES = "shared-prefixes"  # long prompts that begin alike
    STRUCTURED = "structured"  # answers held to a grammar or schema


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSource:
    """The place where a server of this kind reports how many requests it has."""

    path: str = "/metrics"
    reader: str
    """`module:function`; the function turns the text of the answer into an `EngineLoad` or raises
    `EngineUnreachable`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeparateEnvironment:
    """The virtual environment of an engine or a tool that cannot be installed beside Lorry."""

    distributions: tuple[str, ...]
    """Names that its main package is published under; the version is that of the first one that is installed."""
    check: str
    """Program that imports what is used of it; the environment's interpreter runs it when all is installed."""
    cpu_variables: Mapping[str, str] = field(default_factory=dict)
    """Environment variables that are needed on a CPU, to import the packages and to run them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeveralNodes:
    """How an engine computes on devices of several nodes: its builder takes the first one's `NodePlace` as well."""

    arguments: str
    """`module:function`; the function returns the command line on a further node for settings and `NodePlace`."""
    environment: str
    """`module:function`; the function returns the environment variables there for settings and `NodePlace`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """A situation in which a kind is tried without being asked for."""

    rank: int
    """Kinds are tried in ascending order of their ranks."""
    why: str
    """Reason that is shown; `{vendor}` stands for the maker of the accelerators."""
    on: frozenset[Vendor | None]
    """Makers of the machine's accelerators; None is a machine without any."""
    workloads: frozenset[Workload] = frozenset(Workload)
    adapters: bool | None = None
    """Whether adapters must be asked for (True) or must not be (False); None is either."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FourBitMode:
    """A second way to run an engine, made for checkpoints of 4-bit weights; it serves no adapters."""

    vendors: frozenset[Vendor]
    formats: Mapping[str, str]
    """Quantization method of the checkpoint -> the engine's name for it."""
    arguments: tuple[str, ...]
    """Arguments of the server that choose this mode; the name of the format comes after them."""
    why: str
    """Reason that is shown. The mode is tried before every `Preference`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HardwareSupport:
    """The hardware that a kind runs on, its precisions there, and when it is chosen."""

    preferences: tuple[Preference, ...] = ()
    cpu_precisions: tuple[Precision, ...] = (Precision.FP32, Precision.BF16)
    vendors: tuple[Vendor, ...] = ()
    """Makers of the accelerators that Lorry can start it on; without any it runs on the processor alone."""
    device_precisions: tuple[Precision, ...] = ()
    """Precisions that it computes in on accelerators, beside that of a quantized checkpoint."""
    obstacles: Mapping[Vendor, str] = field(default_factory=dict)
    """Why it does not work on the accelerators of a maker, where there is a particular reason."""
    adapter_obstacles: Mapping[Vendor, str] = field(default_factory=dict)
    """Why it has no adapters on the accelerators of a maker."""
    has_cpu_stand_in: bool = False
    """On a CPU it runs with a stand-in for its kernels, for tests alone."""
    four_bit: FourBitMode | None = None
    copies_tied_embedding: bool = False
    """The output layer has a copy of its own of an embedding that the checkpoint shares with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputForms:
    """The forms of answers that servers of a kind enforce by XGrammar; the gateway refuses requests for others.

    The servers themselves pass over fields that they do not know, and parts of schemas.
    """

    fields: Mapping[str, frozenset[str]]
    """Path -> fields of a request that prescribe a form and that the server reads."""
    formats: frozenset[str]
    """Values of `type` in `response_format`; `text` is one everywhere."""
    left_to_guidance: frozenset[str] = frozenset()
    """Keywords of a JSON Schema at which the server takes llguidance, which refuses what it does not enforce."""
    holds_strict_calls: bool = True
    """Arguments of a function with `strict` keep to its schema, whatever `tool_choice` is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizedSupport:
    """Quantized checkpoints that a kind serves on some hardware."""

    on: Vendor | None
    schemes: Mapping[Scheme, tuple[str, ...]]
    """Scheme -> methods (`quant_method`)."""
    capability: tuple[int, int] | None = None
    """NVIDIA's oldest compute capability for these schemes."""
    below: tuple[int, int] | None = None
    """The compute capability from which on they are not served any more."""
    no_adapters: str = ""
    """Why the server has no adapters beside these weights; empty where it has."""
    architectures: tuple[str, ...] = ()
    """Beginnings of AMD's names of the architectures that have them; empty for all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizedRow:
    """All that is known of a kind and quantized checkpoints."""

    served: tuple[QuantizedSupport, ...] = ()
    widened: frozenset[Scheme] = frozenset()
    """Schemes whose weights it turns into float32 when it starts."""
    obstacles: Mapping[tuple[Scheme, Vendor | None], str] = field(default_factory=dict)
    """Why a scheme is not served on the hardware of a maker, where there is a particular reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineKind:
    """A row of the catalog: one kind of engine. Its own code is named `module:attribute`, and imported when needed."""

    builder: str
    """`module:builder`; a builder takes `EngineSettings` and the adapters to start with."""
    live_adapters: bool
    """Adapters come and go without a restart."""
    paths: frozenset[str]
    """Paths of inference requests that its servers may answer; which of them do depends on the base model."""
    adapter_paths: frozenset[str]
    """Paths on which an adapter answers when it is named; on the others the base model answers in its place."""
    load: LoadSource
    path_reader: str | None = None
    """`module:function`; the function asks a running server which of `paths` it answers. None: all of them."""
    adapter_fields: tuple[str, ...] = ("model",)
    """Fields of a request's body that name the adapter; a request for the base model carries `model` alone."""
    ready_path: str = "/health"
    """Path that answers 200 once the server is ready."""
    admin_prefix: str = "/v1"
    """Path before `/load_lora_adapter` and `/unload_lora_adapter`, for kinds with live adapters."""
    environment: SeparateEnvironment | None = None
    """The environment that its servers run in; None is Lorry's own."""
    parsers: str | None = None
    """`module:attribute`, the names of its parsers of tool calls and reasoning; None where it needs none."""
    calls_reader: str | None = None
    """`module:function`; the function asks a running server that others started whether it reads tool calls. None:
    servers refuse tools themselves where they do not."""
    output_forms: OutputForms | None = None
    """None where the server refuses itself what it cannot enforce."""
    several_nodes: SeveralNodes | None = None
    """None where all devices of an engine must be on one node."""
    unhonoured: tuple[str, ...] = ()
    """Fields of `EngineSettings` that must keep their defaults, as its servers have nothing for them."""
    model_types: frozenset[str] | None = None
    """`model_type`s of the base models that it serves; None where the engine itself decides."""
    encoder_arguments: tuple[str, ...] | None = None
    """Arguments of its server for a model that embeds or ranks; None where it serves none."""
    computed_in: Precision | None = None
    """The one precision that it computes in beside quantized weights, however they are stored; None where settings
    decide."""
    quantized: QuantizedRow
    """The quantized checkpoints that it serves."""
    hardware: HardwareSupport
