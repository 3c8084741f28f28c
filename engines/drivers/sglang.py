"""SGLang, by `python -m sglang.launch_server` in its own environment; seen with 0.5.23.

What is peculiar to it:
- a request names its adapter by `lora_path`; by `model` alone the base model answers, with 200 and the name echoed;
- unloading is not revoking: a later `lora_path` of that name loads it again in silence, so we check names before;
- above `--max-loaded-loras` it unloads the least used by itself; we never let it come to that;
- on SIGTERM it drains, and looks every 5 s whether it is done; unloading waits for the adapter's requests;
- one copy of the model for each server: with several it loads no adapters at run time;
- gauges are late by up to 40 steps, `/v1/loads` is not; `/health` generates a token, `/ready` is the cheap question.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from engines.drivers.base_model import context_length, kv_tokens, read_base_model
from engines.drivers.command_line import KEEP_BYTECODE, command_line, interpreter_of, refuse_others
from engines.drivers.offered_paths import paths_of
from engines.drivers.own_server import LiveServer
from engines.drivers.server_process import ServerProcess
from engines.load import LOADS_PATH, EngineLoad, load_of_schedulers
from engines.settings import KEEP_ALIVE_S, EngineSettings, Hardware, Precision

MODULE: Final = ("-m", "sglang.launch_server")
DTYPES: Final = {Precision.FP32: "float32", Precision.BF16: "bfloat16", Precision.FP16: "float16"}
"""Of the others the folder of the base model decides."""
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
LORA_BACKENDS: Final = {Hardware.CPU: "torch_native", Hardware.AMD: "triton", Hardware.ASCEND: "ascend"}


class SglangEngine(LiveServer):
    """An `Engine` that owns one SGLang server; see `engines.protocol` for what each method promises."""

    def __init__(self, settings: EngineSettings, adapters: Mapping[str, Path]) -> None:
        server = ServerProcess(settings, ready_path="/ready")
        super().__init__(settings, server, "/load_lora_adapter", "/unload_lora_adapter")
        self._first_adapters = adapters
        self._command = [interpreter_of(settings), *server_arguments(settings, server.port)]

    async def start(self) -> None:
        """Start the server, learn what its model can do, then load its first adapters."""
        await self._server.start(self._command, server_environment(self._settings))
        self._paths = await paths_of(self._settings.kind, self._server.http)
        await self._adapters.load_all(self._first_adapters)

    async def load(self) -> EngineLoad:
        """How busy its schedulers say they are."""
        return load_of_schedulers((await self._server.http.get(LOADS_PATH)).text)


def server_arguments(settings: EngineSettings, port: int) -> list[str]:
    """The command line of the server behind the interpreter; `SettingRefused` for what SGLang has no way to honour."""
    refuse_others(settings, {"data_parallel": (1,)})
    if settings.hardware is Hardware.CPU:
        refuse_others(settings, {"precision": (None, Precision.FP32, Precision.BF16)})
    base = read_base_model(settings)
    precision = settings.precision or (Precision.FP32 if settings.hardware is Hardware.CPU else None)
    options: dict[str, object] = {
        "--model-path": settings.base_path,
        "--served-model-name": settings.base_name,
        "--host": settings.host,
        "--port": port,
        "--dtype": DTYPES.get(precision, "auto") if precision else "auto",
        "--quantization": "fp8" if precision is Precision.FP8 else None,
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
        "--log-level-http": "warning",
        **HARDWARE_OPTIONS[settings.hardware],
    }
    return command_line(MODULE, options, settings.extra_args)


def lora_options(settings: EngineSettings) -> dict[str, object]:
    """The flags of adapters; without them SGLang also takes models that it has none for."""
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
    """What the server's process has on top of our environment."""
    environment = {
        **KEEP_BYTECODE,
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": str(settings.threads),
        "SGLANG_TIMEOUT_KEEP_ALIVE": KEEP_ALIVE_S,
    }
    if settings.hardware is Hardware.CPU:
        environment["SGLANG_USE_CPU_ENGINE"] = "1"
    return environment
