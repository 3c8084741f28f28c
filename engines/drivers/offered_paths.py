"""Which paths of inference requests a running server answers: its kind says what there may be, the server the rest."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from engines.catalog import ANSWERS, kind_of
from engines.drivers.openai_server import OpenAiServer
from engines.errors import EngineUnavailable

log = logging.getLogger(__name__)

EMBEDDING: Final = frozenset({"/v1/embeddings", "/v1/rerank", "/tokenize"})
"""What SGLang answers with a model that generates nothing."""
NEEDS_AUDIO: Final = frozenset({"/v1/audio/transcriptions"})


async def paths_of(kind: str, http: OpenAiServer) -> frozenset[str]:
    """Those of the kind's paths that the server answers with its base model; `EngineUnavailable`, `UnknownEngine`."""
    return await _READERS[kind](kind_of(kind).paths, http)


async def _all(paths: frozenset[str], _: OpenAiServer) -> frozenset[str]:
    return paths


async def _routed(paths: frozenset[str], http: OpenAiServer) -> frozenset[str]:
    """vLLM has routes only for what its model can do, and lists them unless it was told not to."""
    try:
        listed = frozenset((await http.get("/openapi.json")).json()["paths"])
    except (EngineUnavailable, KeyError) as exc:
        log.warning("vLLM lists no routes, taken for a model that generates text", extra={"error": str(exc)})
        return paths & (ANSWERS | {"/tokenize"})
    return paths & listed


async def _by_model(paths: frozenset[str], http: OpenAiServer) -> frozenset[str]:
    """SGLang has routes for everything, and refuses what its model cannot do."""
    model = (await http.get("/model_info")).json()
    if not model.get("is_generation", True):
        return paths & EMBEDDING
    generating = paths - (EMBEDDING - {"/tokenize"})  # it does not say which of them rerank
    return generating if model.get("has_audio_understanding") else generating - NEEDS_AUDIO


_READERS: Final[Mapping[str, Callable[[frozenset[str], OpenAiServer], Awaitable[frozenset[str]]]]] = {
    "transformers": _all,
    "vllm": _routed,
    "sglang": _by_model,
    "lmdeploy": _all,
}
