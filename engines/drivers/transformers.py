"""The transformers engine as the rest of Lorry sees it: `python -m engines.transformers` in a child process."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from engines.drivers.command_line import command_line, refuse_others
from engines.drivers.own_server import LiveServer
from engines.drivers.server_process import ServerProcess
from engines.load import EngineLoad, LoadMetrics, load_of
from engines.settings import EngineSettings, Hardware, Precision

SPIN_COUNT: Final = "10000"
"""How often a thread of a step looks for the others before it sleeps. Measured with two threads on two cores and 16
clients: 290 tokens/s, 220 when they sleep at once; with libgomp's own 300000, 53 when somebody else wants a core."""
PACKAGE_ROOT: Final = Path(__file__).parents[2]
LOAD: Final = LoadMetrics(running="engine_requests_running", waiting="engine_requests_waiting")
MAX_QUEUE: Final = 64
MAX_STEP_TOKENS: Final = 128


class TransformersEngine(LiveServer):
    """An `Engine` that owns one server process; see `engines.protocol` for what each method promises."""

    def __init__(self, settings: EngineSettings, adapters: Mapping[str, Path]) -> None:
        server = ServerProcess(settings)
        super().__init__(settings, server, "/v1/load_lora_adapter", "/v1/unload_lora_adapter")
        self._first_adapters = adapters
        self._command = [sys.executable, *server_arguments(settings, server.port)]

    async def start(self) -> None:
        """Start the child, wait until it is healthy, load its first adapters."""
        await self._server.start(self._command, server_environment())
        await self._adapters.load_all(self._first_adapters)

    async def load(self) -> EngineLoad:
        """How busy its gauges say it is; they are set at every step."""
        return load_of(await self._server.http.metrics(), LOAD)


def server_arguments(settings: EngineSettings, port: int) -> list[str]:
    """The command line of the server behind the interpreter; `SettingRefused` for what it has no way to honour."""
    alone = dict.fromkeys(("tensor_parallel", "pipeline_parallel", "data_parallel"), (1,))
    unset = dict.fromkeys(("interpreter", "batch_adapters", "kv_memory_gib"), (None,))
    numbers = {"hardware": (Hardware.CPU,), "precision": (None, Precision.FP32)}
    refuse_others(settings, {**alone, **unset, **numbers})
    options = {
        "--base-path": settings.base_path,
        "--base-name": settings.base_name,
        "--host": settings.host,
        "--port": port,
        "--threads": settings.threads,
        "--max-adapters": settings.max_adapters,
        "--max-rank": settings.max_rank,
        "--max-batch": settings.max_batch,
        "--max-context": settings.max_context,
        "--max-queue": MAX_QUEUE if settings.max_queue is None else settings.max_queue,
        "--max-step-tokens": settings.max_step_tokens or MAX_STEP_TOKENS,
    }
    return command_line(("-m", "engines.transformers"), options, settings.extra_args)


def server_environment() -> dict[str, str]:
    """What the server's process has on top of our environment: our packages on its path, one thread for libraries."""
    search_path = filter(None, (str(PACKAGE_ROOT), os.environ.get("PYTHONPATH")))
    return {
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "GOMP_SPINCOUNT": SPIN_COUNT,
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": os.pathsep.join(search_path),
    }
