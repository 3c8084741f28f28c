"""A worker reports its device to the registry."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry.database import Registry
from tests.waiting import wait_for
from trainer.devices.job_device import find_device, machine_memory
from trainer.devices.worker_reports import reporting

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
    assert find_device(5 * MIB, tmp_path).total_bytes == 5 * MIB


def test_a_worker_is_known_while_it_works_and_forgotten_at_its_end(registry: Registry) -> None:
    with reporting(registry, "w1", 5 * MIB):
        (worker,) = wait_for(registry.workers.list)
        assert (worker.name, worker.total_bytes, worker.free_bytes) == ("w1", 5 * MIB, 5 * MIB)
    assert registry.workers.list() == []
