"""Processor time and memory of a set of processes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from typing import Final

import psutil

_OF_A_PROCESS: Final = 2


def tree_of(pid: int) -> list[psutil.Process]:
    """Return the process and all that it started."""
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def command_of(process: psutil.Process) -> str:
    """Return the command line of *process*, empty when the process is gone."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def processor_s(processes: Iterable[psutil.Process]) -> float:
    """Return the processor seconds that the living of *processes* have used so far, to the nanosecond.

    By clock_getcpuclockid(3), whose clocks Linux numbers so; what /proc says comes in hundredths of a second.
    """
    total = 0.0
    for process in processes:
        with contextlib.suppress(OSError):  # it is gone
            total += time.clock_gettime((~process.pid << 3) | _OF_A_PROCESS)
    return total


def memory_mb(processes: Iterable[psutil.Process]) -> float:
    """Return the memory of *processes*; what several share counts once (PSS)."""
    total = 0.0
    for process in processes:
        try:
            total += process.memory_full_info().pss / 1e6
        except psutil.NoSuchProcess:
            continue
    return total
