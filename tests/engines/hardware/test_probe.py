"""A machine is read from the output of the vendors' tools; the samples follow their documentation."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from engines.hardware.machine import Device
from engines.hardware.probe import TOOL_TIMEOUT_S, ToolFailed, cgroup_memory, read_machine, read_processor, run_tool
from engines.kinds import Vendor

MIB = 1024 * 1024
NVML = [
    {"name": "NVIDIA A10", "memory_bytes": 24146608128, "used_bytes": 5 * MIB, "capability": [8, 6]},
    {"name": "NVIDIA A10", "memory_bytes": 24146608128, "used_bytes": 0, "capability": [8, 6]},
]
NVIDIA_SMI = "Tesla T4, 15360, 3, 7.5\nNVIDIA H100 80GB HBM3, 81559, 1024, 9.0\n"
AMD_SMI = [
    {
        "gpu": 0,
        "asic": {"market_name": "AMD Instinct MI300X", "target_graphics_version": "gfx942", "num_compute_units": 304},
        "vram": {"type": "HBM", "vendor": "HYNIX", "size": {"value": 196592, "unit": "MB"}},
    }
]
ROCM_SMI = {
    "card0": {
        "VRAM Total Memory (B)": "68702699520",
        "VRAM Total Used Memory (B)": "10960896",
        "Card Series": "AMD Instinct MI250X",
        "GFX Version": "gfx90a",
    },
    "system": {"Driver version": "6.7.0"},
}
NPU_SMI = """\
+------------------------------------------------------------------------------------------------+
| npu-smi 24.1.0                   Version: 24.1.0                                               |
+---------------------------+---------------+----------------------------------------------------+
| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip                      | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
+===========================+===============+====================================================+
| 0     910B3               | OK            | 92.6        36                0    / 0             |
| 0                         | 0000:C1:00.0  | 0           0    / 0          3389 / 65536         |
+===========================+===============+====================================================+
| 1     910B3               | OK            | 93.1        37                0    / 0             |
| 0                         | 0000:C2:00.0  | 0           0    / 0          3391 / 65536         |
+===========================+===============+====================================================+
+---------------------------+---------------+----------------------------------------------------+
| NPU     Chip              | Process id    | Process name             | Process memory(MB)      |
+===========================+===============+====================================================+
| No running processes found in NPU 0                                                            |
+===========================+===============+====================================================+
"""
MX_SMI = """\
| GPU         NAME          | Bus-id              | GPU-Util             |
| Temp        Power         | Memory-Usage        |                      |
|===========================+=====================+======================|
| 0           MXC500        | 0000:2a:00.0        | 0%                   |
| 36C         56W           | 914/65536 MiB       |                      |
+---------------------------+---------------------+----------------------+
"""
CNMON = """\
| Card  VF  Name       Firmware |               Bus-Id | Util        Ecc-Error |
| Fan   Temp      Pwr:Usage/Cap |         Memory-Usage | Mode     Compute-Mode |
|===============================+======================+=======================|
| 0     /   MLU370-X8    v1.1.4 |         0000:4F:00.0 | 0%                 0  |
|  0%   33C         56 W/ 150 W |   512 MiB/ 23374 MiB | FULL         Default  |
+-------------------------------+----------------------+-----------------------+
"""


class Tools:
    """Answers for the tools that it has; a `ToolFailed` is raised."""

    def __init__(self, outputs: Mapping[str, str | ToolFailed]) -> None:
        self._outputs = outputs

    def __call__(self, command: Sequence[str]) -> str | None:
        output = self._outputs.get("nvml" if command[0] == sys.executable else command[0])
        if isinstance(output, ToolFailed):
            raise output
        return output


def read(**outputs: str | ToolFailed) -> list[Device]:
    return list(read_machine(Tools({name.replace("_", "-"): text for name, text in outputs.items()})).devices)


def test_without_tools_there_is_a_processor_and_nothing_to_remark() -> None:
    hardware = read_machine(Tools({}))
    assert (hardware.devices, hardware.remarks) == ((), ())
    assert hardware.processor.cores >= 1
    assert hardware.processor.memory_bytes > 1e8


def test_nvidia_by_its_library() -> None:
    first, second = read(nvml=json.dumps(NVML))
    assert (first.name, first.memory_bytes, first.used_bytes) == ("NVIDIA A10", 24146608128, 5 * MIB)
    assert (second.capability, second.used_bytes) == ((8, 6), 0)


def test_nvidia_by_its_tool_where_the_library_is_not_found() -> None:
    old, new = read(nvml="null\n", nvidia_smi=NVIDIA_SMI)
    assert (old.name, old.memory_bytes, old.capability) == ("Tesla T4", 15360 * MIB, (7, 5))
    assert (new.used_bytes, new.capability) == (1024 * MIB, (9, 0))


def test_amd_by_either_of_its_tools() -> None:
    (new,) = read(amd_smi=json.dumps(AMD_SMI), rocm_smi="not asked")
    assert (new.name, new.memory_bytes, new.architecture) == ("AMD Instinct MI300X", 196592 * MIB, "gfx942")
    assert read(amd_smi=json.dumps({"gpu_data": AMD_SMI})) == [new]
    (old,) = read(rocm_smi=json.dumps(ROCM_SMI))
    assert (old.name, old.memory_bytes, old.architecture) == ("AMD Instinct MI250X", 68702699520, "gfx90a")


def test_ascend_and_others_by_their_tables() -> None:
    first, second = read(npu_smi=NPU_SMI)
    assert (first.vendor, first.name, first.memory_bytes) == (Vendor.ASCEND, "Ascend 910B3", 65536 * MIB)
    assert second.used_bytes == 3391 * MIB
    (metax,) = read(mx_smi=MX_SMI)
    assert (metax.vendor, metax.name, metax.memory_bytes) == (Vendor.METAX, "MXC500", 65536 * MIB)
    (cambricon,) = read(cnmon=CNMON)
    assert (cambricon.name, cambricon.memory_bytes, cambricon.used_bytes) == ("MLU370-X8", 23374 * MIB, 512 * MIB)


@pytest.mark.parametrize("nonsense", ["[]]", '[{"name": 1}]', "[1]"])
def test_a_tool_that_says_something_else_leaves_a_remark_and_the_others_count(nonsense: str) -> None:
    hardware = read_machine(Tools({"nvml": nonsense, "npu-smi": NPU_SMI}))
    assert [device.vendor for device in hardware.devices] == [Vendor.ASCEND] * 2
    assert "nvidia is not as expected" in hardware.remarks[0]


def test_a_tool_that_fails_leaves_a_remark() -> None:
    broken = ToolFailed("`amd-smi` exited with 1: no driver")
    assert read_machine(Tools({"amd-smi": broken})).remarks == ("`amd-smi` exited with 1: no driver",)


def test_a_real_tool_is_run_and_held_to_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    tools = {"speaks": "echo it is here", "fails": "echo broken >&2; exit 3", "hangs": "exec sleep 60"}
    for name, text in tools.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    assert run_tool(["speaks"]) == "it is here\n"
    assert run_tool(["is-not-there"]) is None
    with pytest.raises(ToolFailed, match="`fails` exited with 3: broken"):
        run_tool(["fails"])
    with pytest.raises(ToolFailed, match=r"`hangs` did not answer within 0\.2 s"):
        run_tool(["hangs"], timeout_s=0.2)
    assert TOOL_TIMEOUT_S <= 10


def test_this_machines_own_nvidia_library_is_asked() -> None:
    assert json.loads(run_tool([sys.executable, "-m", "engines.hardware.nvml"]) or "") is None or read_machine().devices


def test_the_processor_is_read_from_proc_with_the_flags_that_matter(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    cpuinfo = "processor\t: 0\nmodel name\t: Xeon\nflags\t\t: fpu avx2 avx512f amx_tile amx_bf16\n\nprocessor\t: 1\n"
    (tmp_path / "proc/cpuinfo").write_text(cpuinfo)
    processor = read_processor(tmp_path)
    assert processor.name == "Xeon"
    assert processor.flags == {"avx2", "avx512f", "amx_tile", "amx_bf16"}
    assert processor.is_fast_in_bf16


def test_memory_is_bounded_by_the_cgroup_and_those_above_it(tmp_path: Path) -> None:
    cgroups = tmp_path / "sys/fs/cgroup"
    (cgroups / "pod/container").mkdir(parents=True)
    assert cgroup_memory(cgroups, "/pod/container") is None
    (cgroups / "pod/container/memory.max").write_text("max\n")
    (cgroups / "pod/memory.max").write_text(f"{512 * MIB}\n")
    assert cgroup_memory(cgroups, "/pod/container") == 512 * MIB
    assert cgroup_memory(cgroups, "/") is None

    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/pod/container\n")
    assert read_processor(tmp_path).memory_bytes == 512 * MIB


def test_memory_is_bounded_by_the_older_cgroups_too(tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory/memory.limit_in_bytes").write_text(f"{256 * MIB}\n")
    assert cgroup_memory(tmp_path, "/") == 256 * MIB
