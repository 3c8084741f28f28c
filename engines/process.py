"""A child process that leads its own group, logs to a file and cannot outlive its parent."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil

from engines.server_environment import server_base_environment

LAUNCHER: Final = Path(__file__).with_name("bound_child.py")


class ChildProcess:
    """A running child. The kernel kills it when the thread that spawned it ends: spawn from a lasting one."""

    def __init__(self, process: asyncio.subprocess.Process, log_path: Path) -> None:
        self._process = process
        self._log_path = log_path

    @classmethod
    async def spawn(cls, command: Sequence[str], env: Mapping[str, str], log_path: Path) -> ChildProcess:
        """Start *command* with *env* on top of `server_base_environment`; its output is appended to *log_path*."""
        log_path.parent.mkdir(parents=True, exist_ok=True)
        with log_path.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                # The launcher needs the standard library alone: `-I -S` leave out `site` and Python's variables.
                *(sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), *command),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**server_base_environment(os.environ), **env},
                start_new_session=True,  # a group of its own, which can be killed as a whole
            )
        return cls(process, log_path)

    @property
    def pid(self) -> int:
        """Process id, also the id of its group."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether the child was not seen to exit yet."""
        return self._process.returncode is None

    def listens_on(self, port: int) -> bool:
        """Whether the command, or a process that it started, listens on this TCP port."""
        try:
            tree = psutil.Process(self._process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return False
        return any(_listens(process, port) for process in tree)

    def memory_bytes(self) -> int:
        """Return the resident memory of the command and all that it started; 0 once it has ended. Blocks for a while.

        Pages that several processes share are counted in each.
        """
        try:
            root = psutil.Process(self._process.pid)
            return sum(_resident_bytes(each) for each in (root, *root.children(recursive=True)))
        except psutil.NoSuchProcess:
            return 0

    async def wait(self) -> int:
        """Return the exit code when it ends, negative for a signal."""
        return await self._process.wait()

    async def terminate(self, timeout_s: float) -> int:
        """Send SIGTERM, at the deadline SIGKILL to the whole group; return the exit code."""
        with suppress(ProcessLookupError):
            # The launcher gets SIGTERM and hands it on to the command, which drains and ends its own processes.
            self._process.terminate()
        try:
            code = await asyncio.wait_for(self._process.wait(), timeout_s)
        except TimeoutError:
            # No bound is needed after SIGKILL, which no process can ignore.
            self.kill()
            code = await self._process.wait()
        self.kill()  # what the child started may still run
        return code

    def kill(self) -> None:
        """Send SIGKILL to what remains of the group."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def last_log_lines(self, count: int = 20) -> str:
        """Return the end of the child's log, for an error message."""
        with self._log_path.open(errors="replace") as log:
            return "".join(deque(log, maxlen=count))


def _resident_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0


def _listens(process: psutil.Process, port: int) -> bool:
    try:
        sockets = process.net_connections(kind="tcp")
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False
    return any(each.status == psutil.CONN_LISTEN and each.laddr.port == port for each in sockets)
