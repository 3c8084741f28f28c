"""`python -m tests.trainer.forks.fork_program CONTROL WORKER`: training children as forks of one process.

The process imports what every training child imports, some seven seconds of processor time, and then carries out each
order that comes over the socket CONTROL in a fork: the program `trainer.child` with the libraries there already. It
ends with the process WORKER.
"""

from __future__ import annotations

import gc
import os
import random
import signal
import socket
import sys
from importlib import import_module
from pathlib import Path
from typing import NoReturn

import numpy as np
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from registry.contracts.job_kinds import FINE_TUNING_KINDS
from tests.kills.phases import FORK
from tests.trainer.forks.fork_request import ForkRequest
from trainer.child.__main__ import main as carry_out
from trainer.child.process import leave_out_libraries
from trainer.processes.death import die_with

IMPORTED = (LlamaForCausalLM, PreTrainedTokenizerFast)
"""What the tiny base needs of transformers, which imports each model when it is asked for."""
LONGEST_REQUEST = 65536


def main() -> None:
    """Fork for each request until the other end of the socket is closed."""
    descriptor, worker = map(int, sys.argv[1:])
    die_with(worker)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks: their ends are seen at their pipes
    leave_out_libraries(frozenset())
    for kind in FINE_TUNING_KINDS:
        import_module(f"trainer.recipes.{kind.recipe}")
    gc.freeze()  # else each fork walks, and copies the pages of, all objects that it inherits
    with socket.socket(fileno=descriptor) as control:
        while True:
            message, descriptors, _, _ = socket.recv_fds(control, LONGEST_REQUEST, 1)
            if not message:
                return
            (pipe,) = descriptors
            if os.fork() == 0:
                become_child(control, ForkRequest.model_validate_json(message), pipe)
            os.close(pipe)


def become_child(control: socket.socket, request: ForkRequest, pipe: int) -> NoReturn:
    """Carry out the order as `trainer.child` does, in a process group of its own, whose id goes over the socket."""
    os.setsid()
    Path("/proc/self/comm").write_text(FORK)
    control.send(str(os.getpid()).encode())
    control.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    log = os.open(request.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    # A fork has inherited the state of these two, which each new process draws from the system.
    random.seed()
    np.random.seed()
    sys.argv = ["trainer.child", str(request.order_path), str(pipe)]
    code = 1
    try:
        code = carry_out()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
