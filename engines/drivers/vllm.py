"""vLLM, by `python -m vllm.entrypoints.openai.api_server` in its own environment; seen with 0.32.

Its `vllm` command does not start from the CPU wheel. What is peculiar to it:
- without `--shutdown-timeout` a SIGTERM kills its core at once and clients hang; our own deadline is the shorter one;
- the routes for adapters are there only with `VLLM_ALLOW_RUNTIME_LORA_UPDATING`, and unloading waits for nobody;
- the names of adapters in use are labels of `vllm:lora_requests_info`, whose value is the time it was set.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from math import ceil
from pathlib import Path
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from engines.drivers.base_model import context_length, kv_memory_gib, read_base_model
from engines.drivers.command_line import KEEP_BYTECODE, command_line, interpreter_of, refuse_others
from engines.drivers.offered_paths import paths_of
from engines.drivers.own_server import LiveServer
from engines.drivers.server_process import ServerProcess
from engines.errors import EngineUnavailable, SettingRefused
from engines.load import EngineLoad, LoadMetrics, load_of
from engines.settings import KEEP_ALIVE_S, EngineSettings, Hardware, Precision

MODULE: Final = ("-m", "vllm.entrypoints.openai.api_server")
LEGAL_RANKS: Final = (1, 8, 16, 32, 64, 128, 256, 320, 512)
LONGEST_DRAIN_S: Final = 3600
LOAD: Final = LoadMetrics(
    running="vllm:num_requests_running", waiting="vllm:num_requests_waiting", kv_use="vllm:kv_cache_usage_perc"
)
DTYPES: Final = {Precision.FP32: "float32", Precision.BF16: "bfloat16", Precision.FP16: "float16"}
"""Of the others the folder of the base model decides."""
POLL_S: Final = 0.1


class VllmEngine(LiveServer):
    """An `Engine` that owns one vLLM server; see `engines.protocol` for what each method promises."""

    def __init__(self, settings: EngineSettings, adapters: Mapping[str, Path]) -> None:
        server = ServerProcess(settings)
        super().__init__(settings, server, "/v1/load_lora_adapter", "/v1/unload_lora_adapter")
        self._first_adapters = adapters
        self._command = [interpreter_of(settings), *server_arguments(settings, server.port)]

    async def start(self) -> None:
        """Start the server, learn what its model can do, then load its first adapters."""
        await self._server.start(self._command, server_environment(self._settings))
        self._paths = await paths_of(self._settings.kind, self._server.http)
        await self._adapters.load_all(self._first_adapters)

    async def unload_adapter(self, served_name: str) -> None:
        """Make the name unknown, then wait for its requests, which vLLM itself does not."""
        await super().unload_adapter(served_name)
        deadline = time.monotonic() + self._settings.admin_timeout_s
        while served_name in adapters_in_use(await self._server.http.metrics()):
            if time.monotonic() > deadline:
                raise EngineUnavailable(f"{served_name} has requests that do not end")
            await asyncio.sleep(POLL_S)

    async def load(self) -> EngineLoad:
        """How busy its gauges say it is; they are set at every step."""
        return load_of(await self._server.http.metrics(), LOAD)


def server_arguments(settings: EngineSettings, port: int) -> list[str]:
    """The command line of the server behind the interpreter; `SettingRefused` for what vLLM has no way to honour."""
    on_cpu = settings.hardware is Hardware.CPU
    refuse_others(settings, {"max_queue": (None,)})
    if on_cpu:
        refuse_others(settings, {"precision": (None, Precision.FP32, Precision.BF16)})
    base = read_base_model(settings)
    precision = settings.precision or (Precision.FP32 if on_cpu else None)
    memory_gib = None if on_cpu else settings.kv_memory_gib
    options: dict[str, object] = {
        "--model": settings.base_path,
        "--served-model-name": settings.base_name,
        "--host": settings.host,
        "--port": port,
        "--dtype": DTYPES.get(precision, "auto") if precision else "auto",
        "--quantization": "fp8" if precision is Precision.FP8 else None,
        "--max-model-len": context_length(settings, base),
        "--max-num-seqs": settings.max_batch,
        "--max-num-batched-tokens": settings.max_step_tokens,
        "--kv-cache-memory-bytes": int(memory_gib * 1024**3) if memory_gib else None,
        "--tensor-parallel-size": settings.tensor_parallel,
        "--pipeline-parallel-size": settings.pipeline_parallel,
        "--data-parallel-size": settings.data_parallel,
        **(lora_options(settings) if settings.max_adapters else {}),
        "--shutdown-timeout": LONGEST_DRAIN_S,
        "--generation-config": "vllm",  # OpenAI's defaults, not the model folder's, as with every engine
        "--enable-scale-out": True,  # a proof asks for the tokens of its prompts
        "--enable-prompt-tokens-details": True,
        "--disable-uvicorn-access-log": True,
        "--enforce-eager": True if on_cpu else None,
    }
    return command_line(MODULE, options, settings.extra_args)


def lora_options(settings: EngineSettings) -> dict[str, object]:
    """The flags of adapters; without them vLLM also takes models that it has none for."""
    in_batch = min(settings.batch_adapters or 8, settings.max_adapters)
    return {
        "--enable-lora": True,
        "--max-loras": in_batch,
        "--max-cpu-loras": max(settings.max_adapters, in_batch),
        "--max-lora-rank": legal_rank(settings.max_rank),
    }


def server_environment(settings: EngineSettings) -> dict[str, str]:
    """What the server's process has on top of our environment."""
    environment = {
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": KEEP_ALIVE_S,
        **KEEP_BYTECODE,
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": str(settings.threads),
    }
    if settings.hardware is Hardware.CPU:
        memory_gib = kv_memory_gib(settings, read_base_model(settings)) or 1
        environment["VLLM_CPU_KVCACHE_SPACE"] = str(ceil(memory_gib))
        # vLLM's own binding gives every server of a machine the same cores.
        environment["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
    return environment


def legal_rank(rank: int) -> int:
    """The smallest rank that vLLM reserves room for and that *rank* fits in; `SettingRefused` above them all."""
    fitting = [legal for legal in LEGAL_RANKS if legal >= rank]
    if not fitting:
        raise SettingRefused(f"the vllm engine cannot have max_rank = {rank}, at most {LEGAL_RANKS[-1]}")
    return fitting[0]


def adapters_in_use(exposition: str) -> frozenset[str]:
    """Served names of the adapters that requests ran or waited with when vLLM last noted it; none when it is idle."""
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
