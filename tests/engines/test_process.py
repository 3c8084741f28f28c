"""A child process ends with its owner and leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from engines.process import ChildProcess

WAIT_S = 60.0
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)"
)
PARENT = """
import asyncio, pathlib, sys
from engines.process import ChildProcess
async def main():
    command = [sys.executable, "-c", sys.argv[2]]
    child = await ChildProcess.spawn(command, {}, pathlib.Path(sys.argv[1]))
    while not child.last_log_lines():
        await asyncio.sleep(0.02)
    print(child.last_log_lines(), flush=True)
    await child.wait()
asyncio.run(main())
"""


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def spawn(code: str, log: Path) -> ChildProcess:
    return await ChildProcess.spawn([sys.executable, "-c", code], {}, log)


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


async def until_logged(log: Path, text: str) -> None:
    await asyncio.to_thread(wait_until, lambda: text in log.read_text())


@pytest.mark.anyio
async def test_the_exit_code_and_the_log_are_kept(tmp_path: Path) -> None:
    child = await spawn("import sys; print('why'); sys.exit(3)", tmp_path / "log")
    assert await child.wait() == 3
    assert child.last_log_lines() == "why\n"


@pytest.mark.anyio
async def test_a_child_that_ignores_sigterm_is_killed_at_the_deadline(tmp_path: Path) -> None:
    child = await spawn(STUBBORN, tmp_path / "log")
    await until_logged(tmp_path / "log", "ready")
    assert await child.terminate(0.2) == -signal.SIGKILL


@pytest.mark.anyio
async def test_grandchildren_end_with_the_group(tmp_path: Path) -> None:
    code = (
        f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {STUBBORN!r}]); print(p.pid, flush=True)"
    )
    child = await spawn(code + "; p.wait()", tmp_path / "log")
    await until_logged(tmp_path / "log", "ready")
    grandchild = int(child.last_log_lines().split()[0])
    await child.terminate(0.2)
    await asyncio.to_thread(wait_until, lambda: not is_running(grandchild))


@pytest.mark.anyio
async def test_a_child_that_is_killed_is_seen_to_be(tmp_path: Path) -> None:
    child = await spawn("import os; print(os.getpid(), flush=True); os.kill(os.getpid(), 9)", tmp_path / "log")
    assert await child.wait() == -signal.SIGKILL


@pytest.mark.anyio
async def test_a_command_that_does_not_exist_ends_with_the_reason(tmp_path: Path) -> None:
    child = await ChildProcess.spawn([str(tmp_path / "none")], {}, tmp_path / "log")
    assert await child.wait() == 1
    assert "No such file" in child.last_log_lines()


def test_a_killed_parent_takes_its_child_along_and_what_that_started(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    sleep = "import time; time.sleep(600)"
    code = (
        f"import os, subprocess, sys; grandchild = subprocess.Popen([sys.executable, '-c', {sleep!r}]); "
        f"print(os.getpid(), os.getppid(), grandchild.pid, flush=True); {sleep}"
    )
    command = [sys.executable, "-c", PARENT, str(tmp_path / "log"), code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout is not None
        family = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(family) == 3
        assert all(is_running(pid) for pid in family)
        parent.kill()
    wait_until(lambda: not any(is_running(pid) for pid in family))
