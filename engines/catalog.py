"""Which kinds of engine there are, and what can be known of each before one is built. None is imported until then."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Final, cast

from engines.errors import UnknownEngine
from engines.protocol import Engine
from engines.settings import EngineSettings

COMPLETIONS: Final = frozenset({"/v1/chat/completions", "/v1/completions"})
ANSWERS: Final = COMPLETIONS | {"/v1/responses", "/v1/messages"}
EVERYTHING: Final = ANSWERS | {"/v1/embeddings", "/v1/rerank", "/tokenize", "/v1/audio/transcriptions"}

NO_ADAPTERS: Final[Mapping[str, Path]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineKind:
    """One kind of engine."""

    builder: str
    """`module:builder`; a builder takes `EngineSettings` and the adapters to start with."""
    live_adapters: bool
    """Adapters come and go without a restart."""
    own_environment: bool
    """It runs by the interpreter of an environment of its own, which settings must name."""
    paths: frozenset[str]
    """Paths of inference requests that its servers may answer; which of them do depends on the base model."""
    adapter_paths: frozenset[str]
    """Those on which an adapter answers when it is named; on the others the base model would, without a word."""
    adapter_fields: tuple[str, ...] = ("model",)
    """Fields of a request's body that name the adapter; a request for the base model carries `model` alone."""


ENGINES: Final[Mapping[str, EngineKind]] = {
    "transformers": EngineKind(
        builder="engines.drivers.transformers:TransformersEngine",
        live_adapters=True,
        own_environment=False,
        paths=COMPLETIONS | {"/tokenize"},
        adapter_paths=COMPLETIONS | {"/tokenize"},
    ),
    "vllm": EngineKind(
        builder="engines.drivers.vllm:VllmEngine",
        live_adapters=True,
        own_environment=True,
        paths=EVERYTHING,
        adapter_paths=EVERYTHING,
    ),
    "sglang": EngineKind(
        builder="engines.drivers.sglang:SglangEngine",
        live_adapters=True,
        own_environment=True,
        paths=EVERYTHING,
        adapter_paths=COMPLETIONS | {"/v1/embeddings", "/tokenize"},
        adapter_fields=("model", "lora_path"),
    ),
    "lmdeploy": EngineKind(
        builder="engines.drivers.lmdeploy:LmdeployEngine",
        live_adapters=False,
        own_environment=True,
        paths=ANSWERS,
        adapter_paths=ANSWERS,
    ),
}

ADDRESS_FIELDS: Final = frozenset(field for kind in ENGINES.values() for field in kind.adapter_fields)
"""Fields by which one kind or another chooses the weights that answer: the gateway's to set, never a client's."""


def build_engine(settings: EngineSettings, adapters: Mapping[str, Path] = NO_ADAPTERS) -> Engine:
    """The engine of the kind that *settings* name, not started; it has *adapters* (served name -> folder) once it is.

    `UnknownEngine`; `SettingRefused` for what this kind cannot honour; `EnvironmentMissing`; `AdapterLoadFailed` for
    an adapter that a kind without live adapters could not start with.
    """
    kind = kind_of(settings.kind)
    module, _, builder = kind.builder.partition(":")
    build = cast(Callable[[EngineSettings, Mapping[str, Path]], Engine], vars(import_module(module))[builder])
    return build(settings, adapters)


def live_adapters(kind: str) -> bool:
    """Whether engines of *kind* load and unload adapters without a restart; `UnknownEngine`."""
    return kind_of(kind).live_adapters


def adapter_fields(kind: str, served_name: str) -> Mapping[str, str]:
    """What the body of a request to an engine of *kind* says to be answered by the adapter; `UnknownEngine`."""
    return dict.fromkeys(kind_of(kind).adapter_fields, served_name)


def adapter_paths(kind: str) -> frozenset[str]:
    """The paths on which engines of *kind* answer by an adapter; `UnknownEngine`."""
    return kind_of(kind).adapter_paths


def kind_of(name: str) -> EngineKind:
    """The kind of this name; `UnknownEngine` lists those there are."""
    if name not in ENGINES:
        raise UnknownEngine(f"engine {name!r} is not one of {sorted(ENGINES)}")
    return ENGINES[name]
