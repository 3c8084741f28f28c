"""The transformers engine as the rest of Lorry sees it: `python -m engines.transformers` in a child process."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from engines.catalog import kind_of
from engines.command_line import command_line, refuse_others
from engines.live_adapters import LiveAdapters
from engines.load import EngineLoad, LoadMetrics, load_of
from engines.protocol import EngineTraits
from engines.server_process import ServerProcess
from engines.settings import EngineSettings, Hardware, Precision

SPIN_COUNT: Final = "10000"
"""How often a thread of a step looks for the others before it sleeps. Measured with two threads on two cores and 16
clients: 290 tokens/s, 220 when they sleep at once; with libgomp's own 300000, 53 when somebody else wants a core."""
PACKAGE_ROOT: Final = Path(__file__).parents[2]
LOAD: Final = LoadMetrics(running="engine_requests_running", waiting="engine_requests_waiting")
MAX_QUEUE: Final = 64
MAX_STEP_TOKENS: Final = 128


class TransformersEngine:
    """An `Engine` that owns one server process; see `engines.protocol` for what each method promises."""

    def __init__(self, settings: EngineSettings, adapters: Mapping[str, Path]) -> None:
        self._settings = settings
        self._paths = kind_of(settings.kind).paths
        self._first_adapters = adapters
        self._server = ServerProcess(settings)
        self._adapters = LiveAdapters(
            settings,
            self._server.http,
            load_path="/v1/load_lora_adapter",
            unload_path="/v1/unload_lora_adapter",
        )
        self._command = [sys.executable, *server_arguments(settings, self._server.port)]

    @property
    def traits(self) -> EngineTraits:
        """Adapters come and go live."""
        return EngineTraits(live_adapters=True, max_adapters=self._settings.max_adapters, paths=self._paths)

    @property
    def base_url(self) -> str:
        """`http://host:port` of the server."""
        return self._server.url

    async def start(self) -> None:
        """Start the child, wait until it is healthy, load its first adapters."""
        await self._server.start(self._command, server_environment())
        await self._adapters.load_all(self._first_adapters)

    async def stop(self, drain_timeout_s: float) -> None:
        """SIGTERM, which drains; SIGKILL of the group at the deadline."""
        await self._server.stop(drain_timeout_s)

    async def is_healthy(self) -> bool:
        """Whether the child lives and `/health` is 200."""
        return await self._server.is_ready()

    async def wait_exit(self) -> int:
        """Return the child's exit code when it ends."""
        return await self._server.wait_exit()

    def last_log_lines(self) -> str:
        """The end of the server's log."""
        return self._server.last_log_lines()

    async def loaded_adapters(self) -> frozenset[str]:
        """Served names of what is loaded."""
        return await self._adapters.loaded()

    async def load_adapter(self, served_name: str, path: Path) -> None:
        """Load it, or find it loaded."""
        await self._adapters.load(served_name, path)

    async def unload_adapter(self, served_name: str) -> None:
        """Unload it after its requests, as the server does."""
        await self._adapters.unload(served_name)

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
