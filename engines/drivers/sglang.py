"""SGLang, by `python -m sglang.launch_server` in its own environment; seen with 0.5.23.

Peculiarities:
- a request names its adapter by `lora_path`; by `model` alone the base model answers, with 200 and the name echoed;
- unloading is not revoking: a later `lora_path` of that name loads it again in silence, so we check names before;
- above `--max-loaded-loras` it unloads the least used by itself; we never let it come to that;
- on SIGTERM it drains, and looks every 5 s whether it is done; unloading waits for the adapter's requests;
- with a key, what begins with `/health`, `/ready` or `/metrics` is still answered without it;
- one copy of the model for each server: with several it loads no adapters at run time;
- gauges are late by up to 40 steps, `/v1/loads` is not; `/health` generates a token, `/ready` is the cheap question.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import orjson

from engines.answer_parsers import CallFamily, ParserNames, ReasoningFamily, choose_parsers
from engines.drivers.base_model import context_length, dtype_precision, kv_tokens, read_base_model
from engines.drivers.command_line import command_line, server_variables
from engines.drivers.openai_server import OpenAiServer
from engines.drivers.own_server import Launch, LiveServer
from engines.errors import EngineUnreachable
from engines.keyed_server import KEY_VARIABLE
from engines.kinds import Hardware, Precision
from engines.load import EngineLoad
from engines.settings import KEEP_ALIVE_S, EngineSettings

MODULE: Final = ("-m", "sglang.launch_server")
DTYPES: Final = {Precision.FP32: "float32", Precision.BF16: "bfloat16", Precision.FP16: "float16"}
"""Names of the precisions; for one that is not here the folder of the base model decides."""
HARDWARE_OPTIONS: Final[Mapping[Hardware, Mapping[str, object]]] = {
    Hardware.CPU: {
        "--device": "cpu",
        "--attention-backend": "torch_native",
        "--cuda-graph-backend-decode": "disabled",
        "--cuda-graph-backend-prefill": "disabled",
        "--disable-overlap-schedule": True,
    },
    Hardware.NVIDIA: {"--device": "cuda"},
    Hardware.AMD: {"--device": "cuda"},
    Hardware.ASCEND: {"--device": "npu", "--attention-backend": "ascend"},
}
PARSERS: Final = ParserNames(
    calls={
        CallFamily.GPT_OSS: "gpt-oss",
        CallFamily.MISTRAL: "mistral",
        CallFamily.QWEN3_CODER: "qwen3_coder",
        CallFamily.HERMES: "hermes",
        CallFamily.DEEPSEEK_V3: "deepseekv3",
        CallFamily.DEEPSEEK_V31: "deepseekv31",
        CallFamily.LLAMA3: "llama3",
    },
    reasoning={
        ReasoningFamily.GPT_OSS: "gpt-oss",
        ReasoningFamily.QWEN3: "qwen3",
        ReasoningFamily.DEEPSEEK_R1: "deepseek-r1",
    },
)
EMBEDDING: Final = frozenset({"/v1/embeddings", "/v1/rerank", "/tokenize"})
"""Paths that are answered with a model that generates nothing."""
NEEDS_AUDIO: Final = frozenset({"/v1/audio/transcriptions"})
LORA_BACKENDS: Final = {Hardware.CPU: "torch_native", Hardware.AMD: "triton", Hardware.ASCEND: "ascend"}


class SglangEngine(LiveServer):
    """An `Engine` that owns one SGLang server; see `engines.protocol` for what each method promises."""

    def __init__(self, settings: EngineSettings, adapters: Mapping[str, Path]) -> None:
        super().__init__(settings, adapters, Launch(server_arguments, server_environment, KEY_VARIABLE, "--api-key"))


def read_load(body: str) -> EngineLoad:
    """Return the load by SGLang's answer to `/v1/loads?include=core`; `EngineUnreachable` when it is another answer."""
    try:
        ranks = orjson.loads(body)["loads"]
        if not ranks:
            raise EngineUnreachable("/v1/loads names no scheduler")
        return EngineLoad(
            running=sum(rank["num_running_reqs"] for rank in ranks),
            waiting=sum(rank["num_waiting_reqs"] for rank in ranks),
        )
    except (orjson.JSONDecodeError, KeyError, TypeError) as exc:
        raise EngineUnreachable("/v1/loads does not say how busy the schedulers are") from exc


async def paths_of_model(paths: frozenset[str], http: OpenAiServer) -> frozenset[str]:
    """Return those of *paths* that the model can answer: SGLang has routes for everything and refuses the others."""
    model = (await http.get("/model_info")).json()
    if not model.get("is_generation", True):
        return paths & EMBEDDING
    generating = paths - (EMBEDDING - {"/tokenize"})  # `/model_info` does not tell which of them rerank
    return generating if model.get("has_audio_understanding") else generating - NEEDS_AUDIO


async def reads_calls(http: OpenAiServer) -> bool:
    """Return whether the server has a parser of tool calls: without one it leaves calls in the text."""
    return bool((await http.get("/server_info")).json().get("tool_call_parser"))


def server_arguments(settings: EngineSettings, port: int) -> list[str]:
    """Return the command line of the server behind the interpreter; `SettingRefused` for what SGLang cannot honour."""
    base = read_base_model(settings)
    precision = dtype_precision(settings)
    parsers = choose_parsers(settings, PARSERS)
    options: dict[str, object] = {
        "--model-path": settings.base_path,
        "--served-model-name": settings.base_name,
        "--host": settings.host,
        "--port": port,
        "--dtype": DTYPES.get(precision, "auto") if precision else "auto",
        "--quantization": "fp8" if precision is Precision.FP8 and base.quantization is None else None,
        "--context-length": context_length(settings, base),
        "--max-running-requests": settings.max_batch,
        "--max-queued-requests": settings.max_queue,
        "--chunked-prefill-size": settings.max_step_tokens,
        "--max-total-tokens": kv_tokens(settings, base),
        "--tp-size": settings.tensor_parallel,
        "--pp-size": settings.pipeline_parallel,
        **(lora_options(settings) if settings.max_adapters else {}),
        "--sampling-defaults": "openai",  # not the model folder's, as with every engine
        "--enable-metrics": True,
        "--enable-cache-report": True,
        "--skip-server-warmup": True,
        "--tool-call-parser": parsers.calls,
        "--reasoning-parser": parsers.reasoning,
        "--log-level-http": "warning",
        **HARDWARE_OPTIONS[settings.hardware],
    }
    return command_line(MODULE, options, settings.extra_args)


def lora_options(settings: EngineSettings) -> dict[str, object]:
    """Return the flags of adapters; without them SGLang also takes models that it has none for."""
    in_batch = min(settings.batch_adapters or 8, settings.max_adapters) + 1  # the base model counts as one
    return {
        "--enable-lora": True,
        "--lora-target-modules": "all",
        "--max-lora-rank": settings.max_rank,
        "--max-loras-per-batch": in_batch,
        "--max-loaded-loras": max(settings.max_adapters, in_batch),
        "--lora-backend": LORA_BACKENDS.get(settings.hardware),
    }


def server_environment(settings: EngineSettings) -> dict[str, str]:
    """Return what the server's process has on top of our environment."""
    return {**server_variables(settings), "SGLANG_TIMEOUT_KEEP_ALIVE": KEEP_ALIVE_S}
