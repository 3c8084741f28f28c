"""`python -m engines.transformers`: load the model, then serve it until SIGTERM."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

import torch
import uvicorn
from starlette.applications import Starlette
from transformers.utils import logging as transformers_logging

from engines.base_task import BaseTask, task_of
from engines.keyed_server import KEY_VARIABLE
from engines.transformers.errors import UnsupportedModel
from engines.transformers.options import ServerOptions, parse_options

logger = logging.getLogger(__name__)

KEEP_ALIVE_S = 75


def main() -> None:
    """Serve; SIGTERM stops accepting, lets running answers finish, then ends with 0. A failed model ends with 1."""
    options = parse_options(sys.argv[1:])
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    transformers_logging.disable_progress_bar()
    signal.signal(signal.SIGTERM, leave)
    torch.set_num_threads(1)
    end(serve(options))


def serve(options: ServerOptions) -> int:
    """Load the model and answer requests; return the exit code."""
    failures: list[str] = []

    def fail() -> None:
        failures.append("model")
        server.should_exit = True

    try:
        app = application_of(options, fail, os.environ.pop(KEY_VARIABLE, ""))
    except UnsupportedModel as exc:
        logger.error("the model cannot be served: %s", exc)
        return 1
    return_freed_memory()
    config = uvicorn.Config(
        app,
        host=options.host,
        port=options.port,
        log_config=None,
        access_log=False,
        timeout_keep_alive=KEEP_ALIVE_S,
    )
    server = uvicorn.Server(config)
    server.run()
    return 1 if failures else 0


def application_of(options: ServerOptions, on_failure: Callable[[], None], key: str) -> Starlette:
    """Load the model and build the application for what it does; the code of the other kind is not imported."""
    if task_of(options.base_path) is BaseTask.GENERATE:
        from engines.transformers.model import load_model
        from engines.transformers.server import build_app

        loaded = load_model(options.base_path, slots=options.max_batch, max_context=options.max_context)
        return build_app(options, loaded, on_failure, key)
    from engines.transformers.encoders.model import load_encoder
    from engines.transformers.encoders.server import build_encoder_app

    return build_encoder_app(options, load_encoder(options.base_path, options.max_context), on_failure, key)


def return_freed_memory() -> None:
    """Give pages of the heap that nothing uses back to the system, where the C library is glibc.

    Loading frees blocks that glibc keeps otherwise, 0.16 GB for 135M parameters.
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except AttributeError:  # another C library
        return
    trim(0)


def leave(_signal: int, _frame: FrameType | None) -> None:
    """End at once: before uvicorn handles signals, and after it has drained and raises them again."""
    end(0)


def end(code: int) -> None:
    """End this process; what it served has drained, and the interpreter's own end with PyTorch takes seconds."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
