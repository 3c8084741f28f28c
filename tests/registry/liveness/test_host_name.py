"""Hosts that are alike in part have names that differ, and a host keeps its name."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from registry.liveness.host_name import host_name

ROOT = Path(__file__).parents[3]
PRINT = """
import pathlib, sys
from registry.liveness.host_name import host_name
print(host_name(pathlib.Path(sys.argv[1])))
"""


def on_host(hostname: str, home: Path) -> str:
    """Return the name in a namespace with this hostname."""
    renamed = f'hostname {hostname} && exec "$0" "$@"'
    command = ["unshare", "--user", "--map-root-user", "--uts", "sh", "-c", renamed, sys.executable, "-c", PRINT]
    run = subprocess.run([*command, str(home)], cwd=ROOT, capture_output=True, text=True, check=True)
    return run.stdout.strip()


def test_pods_whose_names_begin_alike_have_names_of_their_own(tmp_path: Path) -> None:
    begun = "lorry-raycluster-engines-worker-group-"
    names = [on_host(f"{begun}{end}", tmp_path) for end in ("ab1cd", "ab1ce")]
    assert len(set(names)) == 2
    assert all(name.startswith(begun[:24]) for name in names)


def test_pods_of_one_name_in_two_namespaces_have_names_of_their_own(tmp_path: Path) -> None:
    assert on_host("gpu-0", tmp_path / "one") != on_host("gpu-0", tmp_path / "two")


def test_a_home_that_was_copied_to_another_host_gives_another_name(tmp_path: Path) -> None:
    first = on_host("one", tmp_path / "home")
    shutil.copytree(tmp_path / "home", tmp_path / "copy")
    assert on_host("one", tmp_path / "home") == first != on_host("two", tmp_path / "copy")


def test_processes_that_begin_at_once_agree(tmp_path: Path) -> None:
    running = [
        subprocess.Popen([sys.executable, "-c", PRINT, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for _ in range(6)
    ]
    assert {process.communicate()[0].strip() for process in running} == {host_name(tmp_path)}
    assert [path.name for path in tmp_path.iterdir()] == ["host.id"]


def test_a_home_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=os.strerror(20)):
        host_name(tmp_path / "file" / "home")
