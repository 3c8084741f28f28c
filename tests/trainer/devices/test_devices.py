"""A worker reports its device to the registry."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from registry.contracts.methods.supervised_spec import SupervisedSpec
from registry.database import Registry
from registry.jobs.scheduling.room import QueueEntry
from tests.trainer.attempts import LONG, TIMEOUT_S, training_children, worker_process
from tests.trainer.tiny_base import write_chats
from tests.waiting import wait_for
from trainer.devices.job_device import JobDevice, find_devices, machine_memory
from trainer.devices.worker_reports import reporting
from trainer.processes.child_environment import child_environment

MIB = 1024**2


def machine(root: Path, group: str, **limits: str) -> Path:
    """Write the files of a machine with 64 MiB, whose process is in the cgroup of that line; path -> limit."""
    files = {"proc/meminfo": "MemTotal:          65536 kB\nMemFree: 100 kB\n", "proc/self/cgroup": f"{group}\n"}
    for name, content in (files | limits).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


@pytest.mark.parametrize(
    ("group", "limits", "found"),
    [
        ("0::/", {}, 64),
        ("0::/a/b", {"sys/fs/cgroup/a/b/memory.max": "max\n", "sys/fs/cgroup/a/memory.max": str(32 * MIB)}, 32),
        ("0::/outside", {"sys/fs/cgroup/memory.max": str(16 * MIB)}, 16),
        ("5:memory:/a", {"sys/fs/cgroup/memory/a/memory.limit_in_bytes": str(8 * MIB)}, 8),
        ("0::/a", {"sys/fs/cgroup/a/memory.max": str(1024 * MIB)}, 64),
    ],
)
def test_the_memory_of_a_machine_is_what_its_cgroup_leaves(
    tmp_path: Path, group: str, limits: dict[str, str], found: int
) -> None:
    assert machine_memory(machine(tmp_path, group, **limits)) == found * MIB


def test_a_machine_that_tells_nothing_of_its_memory_has_no_limit(tmp_path: Path) -> None:
    assert machine_memory(tmp_path) is None
    assert [device.total_bytes for device in find_devices(5 * MIB, tmp_path)] == [5 * MIB]


def test_a_worker_is_known_while_it_works_and_forgotten_at_its_end(registry: Registry) -> None:
    with reporting(registry, "w1", JobDevice(name="cpu", total_bytes=5 * MIB)):
        (worker,) = wait_for(registry.workers.list)
        assert (worker.name, worker.total_bytes, worker.free_bytes) == ("w1", 5 * MIB, 5 * MIB)
    assert registry.workers.list() == []


TWO = "GPU-aa, 1000, NVIDIA A\nGPU-bb, 3000, NVIDIA B, large\nGPU-cc, [N/A], NVIDIA C\n"


@pytest.fixture
def two_accelerators(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose nvidia-smi lists two accelerators, and one that tells no size."""
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text(f"#!/bin/sh\nprintf '{TWO}'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tool.parent), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tool.parent


@pytest.mark.usefixtures("two_accelerators")
def test_every_accelerator_is_a_device_and_of_several_a_job_sees_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = find_devices(None)
    assert (first.total_bytes, second.name, second.visible) == (1000 * MIB, "NVIDIA B, large", "GPU-bb")
    assert [device.total_bytes for device in find_devices(7)] == [7, 7]
    assert child_environment({}, 1, accelerator=second.visible)["CUDA_VISIBLE_DEVICES"] == "GPU-bb"
    for allowed, names in (("1", ["NVIDIA B, large"]), ("GPU-a", ["NVIDIA A"]), ("", ["cpu"])):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", allowed)
        found = find_devices(None)
        assert ([device.name for device in found], found[0].visible) == (names, None)


@pytest.mark.trains
@pytest.mark.usefixtures("two_accelerators")
def test_a_job_goes_to_the_accelerator_that_has_room_for_it(
    registry: Registry, make_spec: Callable[..., SupervisedSpec], home: Path
) -> None:
    with write_chats(home / "chats.jsonl").open("rb") as lines:
        file = registry.files.add(lines, filename="chats.jsonl", purpose="fine-tune", owner="ann")
    large = QueueEntry(needed_bytes=2000 * MIB)
    jobs = [registry.jobs.create(make_spec(training_file=file.id, **LONG), "ann", entry=large) for _ in range(2)]
    with worker_process(home) as worker:
        [child] = wait_for(lambda: training_children(psutil.Process(worker.pid)), TIMEOUT_S)
        assert child.environ()["CUDA_VISIBLE_DEVICES"] == "GPU-bb"
        first, second = registry.workers.list()
        assert (first.total_bytes, second.name) == (1000 * MIB, f"{first.name}-1")
        running, waiting = (registry.jobs.get(job.id) for job in jobs)
        assert (running.worker, waiting.worker) == (second.name, None)
