"""Read the processor, the accelerators and the memory of this machine.

Absent tools report nothing, tools that fail or hang leave a remark; nothing raises.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import psutil

from engines.hardware.machine import KNOWN_FLAGS, Device, Machine, Processor
from engines.kinds import Vendor

TOOL_TIMEOUT_S: Final = 10.0
"""Seconds that one tool may take; `nvidia-smi` without its daemon needs some."""
_MIB: Final = 1024 * 1024

Run = Callable[[Sequence[str]], "str | None"]
"""Runs a command and returns its output, None when the tool is not installed; `ToolFailed` when it fails or hangs."""
Reader = Callable[[Run], list[Device]]


class ToolFailed(Exception):
    """A vendor's tool is installed and failed; the message has its output. The error does not leave this module."""


def read_machine(run: Run | None = None, root: Path = Path("/")) -> Machine:
    """Read this machine; *run* calls the vendors' tools, *root* is where `/proc` and `/sys` are."""
    devices: list[Device] = []
    remarks: list[str] = []
    for reader in (_nvidia, _amd, _ascend, _metax, _cambricon):
        try:
            devices += reader(run or run_tool)
        except ToolFailed as exc:
            remarks.append(str(exc))
        except (ValueError, KeyError, IndexError, TypeError) as exc:
            remarks.append(f"the output of the tool for {reader.__name__.strip('_')} is not as expected: {exc!r}")
    processor = read_processor(root)
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        devices.append(Device(vendor=Vendor.APPLE, name=processor.name, memory_bytes=processor.memory_bytes))
    return Machine(processor=processor, devices=tuple(devices), remarks=tuple(remarks))


def run_tool(command: Sequence[str], timeout_s: float = TOOL_TIMEOUT_S) -> str | None:
    """Return the output of *command*; None when it is not installed, `ToolFailed` when it fails or takes too long."""
    if shutil.which(command[0]) is None:
        return None
    try:
        finished = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, check=False, errors="replace"
        )
    except subprocess.TimeoutExpired as exc:
        raise ToolFailed(f"`{' '.join(command)}` did not answer within {timeout_s:g} s") from exc
    except OSError as exc:
        raise ToolFailed(f"`{' '.join(command)}` cannot be run: {exc}") from exc
    if finished.returncode != 0:
        output = (finished.stderr or finished.stdout).strip()[:200]
        raise ToolFailed(f"`{' '.join(command)}` exited with {finished.returncode}: {output}")
    return finished.stdout


def _nvidia(run: Run) -> list[Device]:
    """Read the devices by NVML, or by `nvidia-smi` where the library is not found, as in some containers."""
    found = json.loads(run([sys.executable, "-P", "-m", "engines.hardware.nvml"]) or "null")
    if found is None:
        return _nvidia_smi(run)
    return [
        Device(
            vendor=Vendor.NVIDIA,
            name=each["name"],
            memory_bytes=each["memory_bytes"],
            used_bytes=each["used_bytes"],
            capability=tuple(each["capability"]),
        )
        for each in found
    ]


def _nvidia_smi(run: Run) -> list[Device]:
    fields = "name,memory.total,memory.used,compute_cap"
    output = run(["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits"])
    devices = []
    for line in (output or "").strip().splitlines():
        name, total, used, capability = (part.strip() for part in line.rsplit(",", 3))
        major, _, minor = capability.partition(".")
        devices.append(
            Device(
                vendor=Vendor.NVIDIA,
                name=name,
                memory_bytes=int(total) * _MIB,
                used_bytes=int(used) * _MIB,
                capability=(int(major), int(minor)),
            )
        )
    return devices


def _amd(run: Run) -> list[Device]:
    """Read the devices by `amd-smi`, else by its forerunner `rocm-smi`."""
    output = run(["amd-smi", "static", "--asic", "--vram", "--json"])
    if output is None:
        return _rocm(run)
    found = json.loads(output)
    return [_amd_device(each) for each in (found["gpu_data"] if isinstance(found, dict) else found)]


def _amd_device(found: dict[str, Any]) -> Device:
    size = found["vram"]["size"]
    value, unit = (size["value"], size["unit"]) if isinstance(size, dict) else str(size).split()
    asic = found["asic"]
    return Device(
        vendor=Vendor.AMD,
        name=str(asic["market_name"]),
        memory_bytes=int(value) * _BYTES[unit],
        architecture=asic.get("target_graphics_version"),
    )


_BYTES: Final = {"MB": _MIB, "MiB": _MIB, "GB": 1024 * _MIB, "GiB": 1024 * _MIB}


def _rocm(run: Run) -> list[Device]:
    output = run(["rocm-smi", "--showproductname", "--showmeminfo", "vram", "--json"])
    if output is None:
        return []
    return [
        Device(
            vendor=Vendor.AMD,
            name=str(card.get("Card Series") or card.get("Card series") or card["Card SKU"]),
            memory_bytes=int(card["VRAM Total Memory (B)"]),
            used_bytes=int(card["VRAM Total Used Memory (B)"]),
            architecture=card.get("GFX Version"),
        )
        for name, card in sorted(json.loads(output).items())
        if name.startswith("card")
    ]


_NPU_NAME: Final = re.compile(r"^\|\s*\d+\s+([\w.-]+)\s*\|\s*\w+\s*\|")
_NPU_MEMORY: Final = re.compile(r"(\d+)\s*/\s*(\d+)")


def _ascend(run: Run) -> list[Device]:
    """Read the table of `npu-smi info`: a line with the name, below it one with memory, the last `used/total` in MB.

    Chips of the 910 have a column for DDR, which is 0, before that for HBM.
    """
    devices = []
    name = None
    for line in (run(["npu-smi", "info"]) or "").splitlines():
        if matched := _NPU_NAME.match(line):
            name = matched[1]
        elif name is not None and (sizes := _NPU_MEMORY.findall(line)):
            used, total = sizes[-1]
            device = Device(
                vendor=Vendor.ASCEND,
                name=f"Ascend {name}",
                memory_bytes=int(total) * _MIB,
                used_bytes=int(used) * _MIB,
            )
            devices.append(device)
            name = None
    return devices


def _metax(run: Run) -> list[Device]:
    """Read the table of `mx-smi`: a line with the name, below it one with memory in MiB."""
    return _table(run(["mx-smi"]), Vendor.METAX, re.compile(r"^\|\s*\d+\s+(MXC\w+)"))


def _cambricon(run: Run) -> list[Device]:
    """Read the table of `cnmon`: a line with the name, below it one with memory in MiB."""
    return _table(run(["cnmon"]), Vendor.CAMBRICON, re.compile(r"^\|\s*\d+\s+\S+\s+(MLU[\w-]+)"))


_TABLE_MEMORY: Final = re.compile(r"(\d+)\s*(?:MiB)?\s*/\s*(\d+)\s*MiB")


def _table(output: str | None, vendor: Vendor, name_line: re.Pattern[str]) -> list[Device]:
    devices = []
    name = None
    for line in (output or "").splitlines():
        if matched := name_line.match(line):
            name = matched[1]
        elif name is not None and (sizes := _TABLE_MEMORY.search(line)):
            used, total = int(sizes[1]), int(sizes[2])
            devices.append(Device(vendor=vendor, name=name, memory_bytes=total * _MIB, used_bytes=used * _MIB))
            name = None
    return devices


def read_processor(root: Path = Path("/")) -> Processor:
    """Read the CPU, the cores and the memory that this process may use."""
    found = _cpuinfo(root / "proc/cpuinfo")
    present = set((found.get("flags") or found.get("Features") or "").split())
    limit = cgroup_memory(root / "sys/fs/cgroup", _own_cgroup(root))
    total = psutil.virtual_memory().total
    return Processor(
        name=found.get("model name") or platform.processor() or platform.machine(),
        cores=_usable_cores(),
        memory_bytes=min(total, limit) if limit is not None else total,
        flags=frozenset(flag for flag in KNOWN_FLAGS if flag in present),
    )


def _usable_cores() -> int:
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpuinfo(path: Path) -> dict[str, str]:
    """Return the fields of the first processor; empty where the file does not exist."""
    found: dict[str, str] = {}
    with suppress(OSError):
        for line in path.read_text().split("\n\n", 1)[0].splitlines():
            key, _, value = line.partition(":")
            found[key.strip()] = value.strip()
    return found


def _own_cgroup(root: Path) -> str:
    """Return the path of our cgroup below the unified hierarchy; `/` where the file does not name it."""
    with suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            if line.startswith("0::"):
                return line.removeprefix("0::")
    return "/"


def cgroup_memory(root: Path, own: str) -> int | None:
    """Return the least memory limit of our cgroup and those above it (version 2), or version 1's; None without one."""
    limits = [_limit(root / "memory" / "memory.limit_in_bytes")]
    folder = root / own.strip("/")
    while folder.is_relative_to(root):
        limits.append(_limit(folder / "memory.max"))
        folder = folder.parent
    return min((limit for limit in limits if limit is not None), default=None)


def _limit(file: Path) -> int | None:
    """Read a limit: version 1 writes a number beyond any memory where there is none, version 2 the word `max`."""
    with suppress(OSError, ValueError):
        return int(file.read_text())
    return None
