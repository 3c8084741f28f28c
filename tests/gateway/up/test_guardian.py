"""No process remains, whichever of guardian and host dies first."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.waiting import wait_for

HOST = """
import os, subprocess, sys, threading
from gateway.up.guardian import become_subreaper, end_descendants, watch_guardian

def end():
    end_descendants(grace_s=0.0)
    os._exit(1)

become_subreaper()
watch_guardian(end)
# a daemon: its parent ends at once and it leads a session of its own
subprocess.run(["sh", "-c", "setsid sleep 300 & setsid sh -c 'sleep 301; true' &"], check=True)
open(sys.argv[1], "w").write(str(os.getpid()))
threading.Event().wait()
"""


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[tuple[psutil.Process, psutil.Process, list[psutil.Process]]]:
    """A guardian, its host, and the daemons that the host left."""
    note = tmp_path / "host.pid"
    command = [sys.executable, "-c", HOST, str(note)]
    guard = f"import sys; from gateway.up.guardian import guard; sys.exit(guard({command!r}))"
    process = subprocess.Popen([sys.executable, "-c", guard])
    wait_for(lambda: note.is_file() and note.read_text() != "")
    host = psutil.Process(int(note.read_text()))
    wait_for(lambda: len(host.children(recursive=True)) >= 3)
    daemons = host.children(recursive=True)
    yield psutil.Process(process.pid), host, daemons
    process.kill()
    process.wait()


Tree = tuple[psutil.Process, psutil.Process, list[psutil.Process]]


@pytest.mark.long
@pytest.mark.parametrize("victim", ["guardian", "host"])
def test_a_kill_of_either_ends_the_whole_tree(tree: Tree, victim: str) -> None:
    guardian, host, daemons = tree
    killed, other = (guardian, host) if victim == "guardian" else (host, guardian)
    os.kill(killed.pid, signal.SIGKILL)
    _, alive = psutil.wait_procs([other, *daemons], timeout=60)
    assert alive == []


def test_sigterm_reaches_the_host_and_nothing_stays(tree: Tree) -> None:
    tree[0].send_signal(signal.SIGTERM)
    _, alive = psutil.wait_procs([tree[1], *tree[2]], timeout=60)
    assert alive == []


ADOPTING = """
import subprocess, sys, psutil
from gateway.up.guardian import become_subreaper, reap_orphans
from tests.waiting import wait_for

def zombies():
    return [child for child in psutil.Process().children() if child.status() == psutil.STATUS_ZOMBIE]

become_subreaper()
reap_orphans(())  # there is no child yet
for _ in range(3):  # the launcher of an engine dies first, and what it started is ours then
    subprocess.run(["sh", "-c", "setsid true & setsid false &"], check=True)
own = subprocess.Popen(["sh", "-c", "exit 7"])
wait_for(lambda: len(zombies()) == 7)
reap_orphans((own.pid,))
assert own.pid in {zombie.pid for zombie in zombies()}
assert own.wait() == 7
reap_orphans((own.pid,))
assert zombies() == []
"""


def test_adopted_processes_that_ended_leave_no_zombie_and_own_ones_their_exit_code() -> None:
    told = subprocess.run([sys.executable, "-c", ADOPTING], check=False, capture_output=True, timeout=60)
    assert (told.returncode, told.stderr.decode()) == (0, "")
