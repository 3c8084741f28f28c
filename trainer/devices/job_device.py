"""The devices on which jobs run, and their memory, read without a library for accelerators."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
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
    visible: str | None = None
    """The value of CUDA_VISIBLE_DEVICES by which a process has this accelerator alone; None where there is one."""


def find_devices(given_bytes: int | None, root: Path = Path("/")) -> list[JobDevice]:
    """Return the accelerators that jobs may use, or the machine with its memory; *given_bytes* of each goes before."""
    found = _accelerators(os.environ.get("CUDA_VISIBLE_DEVICES"))
    if not found:
        found = [JobDevice(name="cpu", total_bytes=machine_memory(root))]
    elif len(found) == 1:
        found = [replace(found[0], visible=None)]
    return found if given_bytes is None else [replace(device, total_bytes=given_bytes) for device in found]


def _accelerators(allowed: str | None) -> list[JobDevice]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    command = [tool, "--query-gpu=uuid,memory.total,name", "--format=csv,noheader,nounits"]
    try:
        output = subprocess.run(command, capture_output=True, text=True, timeout=_TOOL_S, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    devices = []
    for number, line in enumerate(output.strip().splitlines()):
        uuid, size, name = (*map(str.strip, line.split(",", 2)), "", "")[:3]
        if size.isdigit() and _is_allowed(number, uuid, allowed):
            devices.append(JobDevice(name=name, total_bytes=int(size) * _MIB, visible=uuid))
    return devices


def _is_allowed(number: int, uuid: str, allowed: str | None) -> bool:
    """Return whether CUDA_VISIBLE_DEVICES, which has numbers or beginnings of UUIDs, leaves the accelerator."""
    if allowed is None:
        return True
    listed = [part.strip() for part in allowed.split(",") if part.strip()]
    return any(part == str(number) or (part.startswith("GPU-") and uuid.startswith(part)) for part in listed)


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
