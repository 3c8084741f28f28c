"""The transformers engine as the rest of Lorry sees it: `python -m engines.transformers` in a child process."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from engines.base_task import BaseTask, task_of
from engines.drivers.command_line import command_line
from engines.drivers.openai_server import OpenAiServer
from engines.drivers.own_server import Launch, LiveServer
from engines.errors import EngineUnreachable
from engines.keyed_server import KEY_VARIABLE
from engines.load import EngineLoad, LoadMetrics, load_of
from engines.settings import EngineSettings

log = logging.getLogger(__name__)

SPIN_COUNT: Final = "10000"
"""Times that a thread of a step looks for the others before it sleeps. Measured with two threads on two cores and 16
clients: 290 tokens/s, 220 when they sleep at once; with libgomp's own 300000, 53 when somebody else wants a core."""
PACKAGE_ROOT: Final = Path(__file__).parents[2]
LOAD: Final = LoadMetrics(running="engine_requests_running", waiting="engine_requests_waiting")
MAX_QUEUE: Final = 64
MAX_STEP_TOKENS: Final = 128
PASS_TOKENS: Final = 1024
"""Most tokens of a pass over texts to embed or rank. Measured best from 512 to 2,048 on one thread: above that a
layer's states leave the processor's cache, and all requests wait longer for each other."""
_GENERATING: Final = frozenset({"/v1/chat/completions", "/v1/completions", "/tokenize"})


class TransformersEngine(LiveServer):
    """An `Engine` that owns one server process; see `engines.protocol` for what each method promises."""

    def __init__(self, settings: EngineSettings, adapters: Mapping[str, Path]) -> None:
        super().__init__(settings, adapters, Launch(server_arguments, server_environment, KEY_VARIABLE))


def read_load(exposition: str) -> EngineLoad:
    """Return the load by the server's gauges, which are set at every step; `EngineUnreachable`."""
    return load_of(exposition, LOAD)


async def listed_paths(paths: frozenset[str], http: OpenAiServer) -> frozenset[str]:
    """Return those of *paths* that the server lists for its base model, by what that is for."""
    try:
        bases = [entry for entry in await http.models() if not entry.get("parent")]
        listed = [path for entry in bases for path in entry["paths"]]
    except (EngineUnreachable, KeyError) as exc:
        log.warning("the server lists no paths, taken for one that generates text", extra={"error": str(exc)})
        return paths & _GENERATING
    return paths & frozenset(listed)


def server_arguments(settings: EngineSettings, port: int) -> list[str]:
    """Return the command line of the server behind the interpreter."""
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
        "--max-step-tokens": settings.max_step_tokens or _step_tokens(settings.base_path),
    }
    return command_line(("-P", "-m", "engines.transformers"), options, settings.extra_args)


def _step_tokens(base_path: Path) -> int:
    return MAX_STEP_TOKENS if task_of(base_path) is BaseTask.GENERATE else PASS_TOKENS


def server_environment(settings: EngineSettings) -> dict[str, str]:
    """Return what the server's process has on top of our environment: our packages, one thread for libraries."""
    search_path = filter(None, (str(PACKAGE_ROOT), os.environ.get("PYTHONPATH")))
    return {
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "GOMP_SPINCOUNT": SPIN_COUNT,
        "HF_HUB_OFFLINE": "1",
        "RAYON_NUM_THREADS": str(settings.threads),  # of the tokenizer, for the texts of one request
        "PYTHONPATH": os.pathsep.join(search_path),
    }
