"""vLLM, by `python -m vllm.entrypoints.openai.api_server` in its own environment; seen with 0.32.

The `vllm` command does not start from the CPU wheel. Peculiarities:
- without `--shutdown-timeout` a SIGTERM kills its core at once and clients hang; our own deadline is the shorter one;
- its key guards `/v1` alone, so a middleware of ours guards the other paths;
- the routes for adapters are there only with `VLLM_ALLOW_RUNTIME_LORA_UPDATING`, and unloading waits for nobody;
- the names of adapters in use are labels of `vllm:lora_requests_info`, whose value is the time it was set.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from functools import partial
from math import ceil
from pathlib import Path
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from engines.answer_parsers import CallFamily, ParserNames, ReasoningFamily, choose_parsers
from engines.catalog import COMPLETIONS
from engines.drivers.base_model import BaseModel, context_length, dtype_precision, kv_memory_gib, read_base_model
from engines.drivers.command_line import command_line, server_variables
from engines.drivers.openai_server import OpenAiServer
from engines.drivers.own_server import Launch, LiveServer
from engines.errors import EngineUnreachable, SettingRefused
from engines.kinds import Hardware, Precision
from engines.load import EngineLoad, LoadMetrics, load_of
from engines.network.node_place import NodePlace
from engines.quantization import Scheme
from engines.settings import KEEP_ALIVE_S, EngineSettings

log = logging.getLogger(__name__)

MODULE: Final = ("-m", "vllm.entrypoints.openai.api_server")
MIDDLEWARE: Final = Path(__file__).parents[1] / "in_environment"
"""Folder of the modules of ours that vLLM's interpreter imports, and of nothing else."""
RANK_MODULE: Final = ("-m", "lorry_vllm_rank")
"""What runs on the nodes beyond the first."""
LEGAL_RANKS: Final = (1, 8, 16, 32, 64, 128, 256, 320, 512)
LONGEST_DRAIN_S: Final = 3600
LOAD: Final = LoadMetrics(running="vllm:num_requests_running", waiting="vllm:num_requests_waiting")
DTYPES: Final = {Precision.FP32: "float32", Precision.BF16: "bfloat16", Precision.FP16: "float16"}
"""Names of the precisions; for one that is not here the folder of the base model decides."""
PARSERS: Final = ParserNames(
    calls={
        CallFamily.GPT_OSS: "openai",
        CallFamily.MISTRAL: "mistral",
        CallFamily.QWEN3_CODER: "qwen3_coder",
        CallFamily.HERMES: "hermes",
        CallFamily.DEEPSEEK_V3: "deepseek_v3",
        CallFamily.DEEPSEEK_V31: "deepseek_v31",
        CallFamily.LLAMA3: "llama3_json",
    },
    reasoning={
        ReasoningFamily.GPT_OSS: "openai_gptoss",
        ReasoningFamily.QWEN3: "qwen3",
        ReasoningFamily.DEEPSEEK_R1: "deepseek_r1",
    },
)
POLL_S: Final = 0.1


class VllmEngine(LiveServer):
    """An `Engine` that owns one vLLM server; see `engines.protocol` for what each method promises."""

    def __init__(self, settings: EngineSettings, adapters: Mapping[str, Path], place: NodePlace | None = None) -> None:
        arguments, environment = partial(server_arguments, place=place), partial(server_environment, place=place)
        super().__init__(settings, adapters, Launch(arguments, environment, "VLLM_API_KEY"))

    async def unload_adapter(self, served_name: str) -> None:
        """Make the name unknown, then wait for its requests, which vLLM itself does not."""
        await super().unload_adapter(served_name)
        deadline = time.monotonic() + self._settings.admin_timeout_s
        while served_name in adapters_in_use(await self._server.http.metrics()):
            if time.monotonic() > deadline:
                raise EngineUnreachable(f"{served_name} has requests that do not end")
            await asyncio.sleep(POLL_S)


def read_load(exposition: str) -> EngineLoad:
    """Return the load by vLLM's gauges, which are set at every step; `EngineUnreachable`."""
    return load_of(exposition, LOAD)


async def routed_paths(paths: frozenset[str], http: OpenAiServer) -> frozenset[str]:
    """Return those of *paths* that the server has a route for.

    vLLM has routes only for what its model can do, and lists them unless it was started without its documentation.
    """
    try:
        listed = frozenset((await http.get("/openapi.json")).json()["paths"])
    except (EngineUnreachable, KeyError) as exc:
        log.warning("vLLM lists no routes, taken for a model that generates text", extra={"error": str(exc)})
        return paths & (COMPLETIONS | {"/tokenize"})
    return paths & listed


def _computed_in(settings: EngineSettings, base: BaseModel) -> Precision | None:
    """Return the precision to compute in; on a CPU bf16 beside 8-bit activations, whose product takes no 32-bit floats.

    With those its server starts, and the first request ends it ("expect A to be bfloat16 or half").
    """
    has_int8 = base.quantization is not None and base.quantization.scheme is Scheme.W8A8_INT8
    if settings.hardware is not Hardware.CPU or not has_int8:
        return dtype_precision(settings)
    if settings.precision is Precision.FP32:
        raise SettingRefused(
            "the vllm engine cannot have precision = fp32 with w8a8-int8 weights on a CPU, only bf16: its product of "
            "8-bit integers takes no 32-bit floats"
        )
    return Precision.BF16


def server_arguments(settings: EngineSettings, port: int, place: NodePlace | None = None) -> list[str]:
    """Return the command line of the server behind the interpreter; `SettingRefused` for what vLLM cannot honour."""
    return command_line(MODULE, server_options(settings, port, place), settings.extra_args)


def rank_arguments(settings: EngineSettings, place: NodePlace) -> list[str]:
    """Return the command line of the process on a node beyond the first: the server's, without a server."""
    options = server_options(settings, 0, place) | {"--headless": True}
    return command_line(RANK_MODULE, options, settings.extra_args)


def server_options(settings: EngineSettings, port: int, place: NodePlace | None) -> dict[str, object]:
    """Return the flags of the server and their values; `SettingRefused`."""
    on_cpu = settings.hardware is Hardware.CPU
    if on_cpu and settings.pipeline_parallel > 1:
        raise SettingRefused(
            f"vllm on a CPU cannot have pipeline_parallel = {settings.pipeline_parallel}: it ends at the first "
            "request; tensor_parallel shares every layer instead"
        )
    base = read_base_model(settings)
    precision = _computed_in(settings, base)
    memory_gib = None if on_cpu else settings.kv_memory_gib
    return {
        "--model": settings.base_path,
        "--served-model-name": settings.base_name,
        "--host": settings.host,
        "--port": port,
        "--dtype": DTYPES.get(precision, "auto") if precision else "auto",
        "--quantization": "fp8" if precision is Precision.FP8 and base.quantization is None else None,
        "--max-model-len": context_length(settings, base),
        "--max-num-seqs": settings.max_batch,
        "--max-num-batched-tokens": settings.max_step_tokens,
        "--kv-cache-memory-bytes": int(memory_gib * 1024**3) if memory_gib else None,
        "--tensor-parallel-size": settings.tensor_parallel,
        "--pipeline-parallel-size": settings.pipeline_parallel,
        "--data-parallel-size": settings.data_parallel,
        **({} if place is None else node_options(place)),
        **(lora_options(settings) if settings.max_adapters else {}),
        "--shutdown-timeout": LONGEST_DRAIN_S,
        "--generation-config": "vllm",  # OpenAI's defaults, not the model folder's, as with every engine
        "--enable-scale-out": True,  # a proof asks for the tokens of its prompts
        "--enable-prompt-tokens-details": True,
        **parser_options(settings),
        "--disable-uvicorn-access-log": True,
        "--middleware": "lorry_require_key.RequireKey",
        "--enforce-eager": True if on_cpu else None,
    }


def node_options(place: NodePlace) -> dict[str, object]:
    """Return the flags by which the processes of several nodes find each other."""
    return {
        "--distributed-executor-backend": "mp",
        "--nnodes": place.meeting.nodes,
        "--node-rank": place.rank,
        "--master-addr": place.meeting.address,
        "--master-port": place.meeting.port,
    }


def parser_options(settings: EngineSettings) -> dict[str, object]:
    """Return the flags of the parsers; without that of tool calls vLLM refuses tools."""
    parsers = choose_parsers(settings, PARSERS)
    return {
        "--enable-auto-tool-choice": True if parsers.calls else None,
        "--tool-call-parser": parsers.calls,
        "--reasoning-parser": parsers.reasoning,
    }


def lora_options(settings: EngineSettings) -> dict[str, object]:
    """Return the flags of adapters; without them vLLM also takes models that it has none for."""
    in_batch = min(settings.batch_adapters or 8, settings.max_adapters)
    return {
        "--enable-lora": True,
        "--max-loras": in_batch,
        "--max-cpu-loras": max(settings.max_adapters, in_batch),
        "--max-lora-rank": legal_rank(settings.max_rank),
    }


def server_environment(settings: EngineSettings, place: NodePlace | None = None) -> dict[str, str]:
    """Return what the server's process has on top of our environment."""
    environment = {
        **server_variables(settings),
        **({} if place is None else {**place.variables, "VLLM_HOST_IP": place.address}),
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "PYTHONPATH": str(MIDDLEWARE),
        "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": KEEP_ALIVE_S,
    }
    if settings.hardware is Hardware.CPU:
        memory_gib = kv_memory_gib(settings, read_base_model(settings)) or 1
        environment["VLLM_CPU_KVCACHE_SPACE"] = str(ceil(memory_gib))
        # vLLM's own binding gives every server of a machine the same cores.
        environment["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
    return environment


def legal_rank(rank: int) -> int:
    """Return the smallest rank that vLLM reserves room for and that *rank* fits in; `SettingRefused` above them all."""
    fitting = [legal for legal in LEGAL_RANKS if legal >= rank]
    if not fitting:
        raise SettingRefused(f"the vllm engine cannot have max_rank = {rank}, at most {LEGAL_RANKS[-1]}")
    return fitting[0]


def adapters_in_use(exposition: str) -> frozenset[str]:
    """Return the adapters that requests ran or waited with when vLLM last noted it; none when it is idle."""
    load = load_of(exposition, LOAD)
    if load.running + load.waiting == 0:
        return frozenset()
    lines = "\n".join(line for line in exposition.splitlines() if line.startswith("vllm:lora_requests_info"))
    series = [sample for family in text_string_to_metric_families(lines) for sample in family.samples]
    if not series:
        return frozenset()
    labels = max(series, key=lambda sample: sample.value).labels
    names = f"{labels['running_lora_adapters']},{labels['waiting_lora_adapters']}"
    return frozenset(filter(None, names.split(",")))
