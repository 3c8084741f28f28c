"""The settings of a process that carries out orders: its niceness, and the libraries that it leaves out."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from registry.contracts.extensions.integrations import MLFLOW
from registry.contracts.parallel_spec import DEEPSPEED
from registry.contracts.weights_spec import LIBRARIES

IDLE_NICE: Final = 19
AUTOGROUP: Final = Path("/proc/self/autogroup")


def leave_out_libraries(needed: frozenset[str]) -> None:
    """Hide the optional libraries that are not *needed*: PEFT, accelerate and DeepSpeed import what is installed.

    Each takes a second of processor time.
    """
    for name in {*LIBRARIES.values(), DEEPSPEED, MLFLOW} - needed:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # None says that there is no such module


def go_behind(nice: int) -> None:
    """Let processes of lower niceness on the same machine go first.

    Where the kernel groups processes by session, as it does by default, niceness counts only within a session, and a
    child has one of its own; there the group gets the niceness too. With the highest niceness the process runs only
    while a processor has nothing else to do, and is interrupted at once.
    """
    os.nice(nice)
    if nice >= IDLE_NICE:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    with suppress(OSError):  # a kernel that does not group, or one that takes no other value so soon
        AUTOGROUP.write_text(str(nice))
