"""The device on which a worker's jobs run, and its memory, read without a library for accelerators."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TOOL_S: Final = 20.0
_MIB: Final = 1024**2
_KIB: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDevice:
    """A device as a worker reports it."""

    name: str
    total_bytes: int | None
    """None where it cannot be found out."""


def find_device(given_bytes: int | None, root: Path = Path("/")) -> JobDevice:
    """Return the accelerator that training uses, the first of the machine, or its memory; *given_bytes* goes before."""
    device = _accelerator() or JobDevice(name="cpu", total_bytes=machine_memory(root))
    return device if given_bytes is None else JobDevice(name=device.name, total_bytes=given_bytes)


def _accelerator() -> JobDevice | None:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    command = [tool, "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        output = subprocess.run(command, capture_output=True, text=True, timeout=_TOOL_S, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    name, _, size = output.strip().splitlines()[0].rpartition(",") if output.strip() else ("", "", "")
    return JobDevice(name=name.strip(), total_bytes=int(size) * _MIB) if size.strip().isdigit() else None


def machine_memory(root: Path = Path("/")) -> int | None:
    """Return the bytes that processes here may use: the machine's memory, or the lowest limit of a cgroup above."""
    found = [*_limits(root), *_installed(root)]
    return min(found) if found else None


def _installed(root: Path) -> Iterator[int]:
    for line in _lines(root / "proc/meminfo"):
        if line.startswith("MemTotal:"):
            yield int(line.split()[1]) * _KIB


def _limits(root: Path) -> Iterator[int]:
    # The group's own folder and those above; inside a container the own group is the root of what is mounted.
    for line in ("0::/", *_lines(root / "proc/self/cgroup")):
        _, controllers, path = line.split(":", 2)
        mount, name = (
            ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
            if controllers == "memory"
            else ("sys/fs/cgroup", "memory.max")
        )
        group = Path(path.strip().lstrip("/"))
        for folder in (group, *group.parents):
            for text in _lines(root / mount / folder / name):
                if text.strip().isdigit():  # "max" is no limit
                    yield int(text)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
