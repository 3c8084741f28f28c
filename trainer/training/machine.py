"""The facts of a machine on which the last digits of a result depend."""

from __future__ import annotations

import platform
from pathlib import Path

import torch


def machine_facts(threads: int) -> dict[str, str]:
    """Return processor, instruction set, device and number of threads, as a revision records them."""
    has_gpu = torch.cuda.is_available()
    facts = {
        "architecture": platform.machine(),
        "cpu": _cpu_name(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": str(threads),
        "device": torch.cuda.get_device_name() if has_gpu else "cpu",
    }
    return facts | {"cuda": str(torch.version.cuda)} if has_gpu else facts


def peak_bytes(processes: int) -> int | None:
    """Return the most bytes that the job had at a time: of a GPU, else resident ones of *processes* alike.

    None where the system does not say.
    """
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_reserved())
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    # Unlike getrusage's, this peak begins anew with the program, and does not have its parent's.
    found = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return found[0] * 1024 * processes if found else None


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
