"""The resident child as its worker sees it: one process for all light jobs on a base model, which it keeps loaded."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Final

from graders.grade import Models
from registry.contracts.job_spec import JobSpec
from trainer.child.requests import ResidentRequest
from trainer.order import ChildOrder
from trainer.processes.child_environment import child_environment
from trainer.progress import Progress, ProgressReader
from trainer.runner import GroupHalt, await_end, described_end
from trainer.settings import TrainerSettings

PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_MEMORY: Final = {"MALLOC_ARENA_MAX": "1"}
"""Memory that one job frees is for the next: with a pool of memory for each thread, each job would keep its own."""


class ResidentProcess:
    """A child process for light jobs on the base model with one digest; it ends with this worker."""

    is_shared: Final = True

    def __init__(self, settings: TrainerSettings, base_digest: str, nice: int, accelerator: str | None = None) -> None:
        """Start the process, which loads its libraries at once and the base model for the first job.

        Call it from a thread that stays: the kernel kills the process when the thread that started it ends.
        """
        self.base_digest = base_digest
        settings.work.mkdir(parents=True, exist_ok=True)
        self._log = settings.work / f"resident-{os.getpid()}{accelerator or ''}.log"
        self._jobs: set[Path] = set()
        self._held: set[Path] = set()
        self._lock = Lock()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        asked = (theirs.fileno(), os.getpid(), nice, settings.light_jobs_at_once())
        try:
            with self._log.open("wb") as output:
                self._process = subprocess.Popen(
                    # `-P`: with `-m` alone Python would look in the current folder first, which may be a checkout too.
                    [sys.executable, "-P", "-m", "trainer.child.resident", *map(str, asked)],
                    env=child_environment(os.environ, settings.threads, accelerator=accelerator) | _MEMORY,
                    pass_fds=(theirs.fileno(),),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
        except BaseException:
            self._control.close()
            raise
        finally:
            theirs.close()

        self._halt = GroupHalt(self._process.pid)

    @property
    def pid(self) -> int:
        """Process id of the child."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether the process can take jobs."""
        return self._process.poll() is None

    def memory_bytes(self) -> int:
        """Return the resident memory of the process; 0 once it has ended."""
        with contextlib.suppress(OSError):
            return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * PAGE_BYTES
        return 0

    def start(self, order: ChildOrder[JobSpec], models: Models | None) -> ResidentJob:
        """Have the job begin beside those that are there; light jobs ask no *models*."""
        order_path = order.attempt_folder / "order.json"
        order_path.write_text(order.model_dump_json())
        reading, writing = os.pipe()
        try:
            self._ask(ResidentRequest(act="begin", order_path=order_path), [writing])
        finally:
            os.close(writing)
        with self._lock:
            self._jobs.add(order_path)
            self._halt_if_all_are_held()
        return ResidentJob(self, order_path, reading)

    def hold(self, order_path: Path, *, is_held: bool) -> None:
        """Let a job stand still, which it does while all others do too."""
        with self._lock:
            (self._held.add if is_held else self._held.discard)(order_path)
            self._halt_if_all_are_held()

    def leave(self, order_path: Path) -> None:
        """Forget a job."""
        with self._lock:
            self._jobs.discard(order_path)
            self._held.discard(order_path)
            self._halt_if_all_are_held()

    def _halt_if_all_are_held(self) -> None:
        self._halt.set(is_held=bool(self._jobs) and self._held >= self._jobs)

    def ask(self, request: ResidentRequest) -> None:
        """Ask for something about a job."""
        self._ask(request, [])

    def describe_end(self) -> str:
        """Return how the process ended."""
        return described_end(self._process, self._log)

    def close(self) -> None:
        """Kill the process group, with every job that is still at work, and wait for its end."""
        self._control.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await_end(self._process)
        self._log.unlink(missing_ok=True)

    def _ask(self, request: ResidentRequest, descriptors: Sequence[int]) -> None:
        # A process that has ended takes no request; the job sees its end on its own pipe.
        with contextlib.suppress(OSError):
            socket.send_fds(self._control, [request.model_dump_json().encode()], [*descriptors])


class KeptBase:
    """The resident process of a worker, which stays for a while when it has no jobs, in case that more come."""

    def __init__(self, settings: TrainerSettings, accelerator: str | None = None) -> None:
        self._settings = settings
        self._accelerator = accelerator
        self._process: ResidentProcess | None = None
        self._idle_since: float | None = None

    @property
    def digest(self) -> str | None:
        """Digest of the base model that is kept; None where none is."""
        return self._process.base_digest if self._process is not None and self._process.is_alive else None

    def process_for(self, base_digest: str, nice: int) -> ResidentProcess:
        """Return the process for jobs on this base model; one for another base model is ended, a new one has *nice*."""
        self._idle_since = None
        if self._process is None or self.digest != base_digest:
            self.close()
            self._process = ResidentProcess(self._settings, base_digest, nice, self._accelerator)
        return self._process

    def rest(self, now: float) -> None:
        """End the process if it has had no job for `idle_base_s`, or holds more than `idle_base_bytes` without one.

        Call it again and again while no job runs; *now* is the time by a clock that does not jump.
        """
        if self._process is None:
            return
        self._idle_since = now if self._idle_since is None else self._idle_since
        is_over = now - self._idle_since >= self._settings.idle_base_s
        if is_over or not self._process.is_alive or self._process.memory_bytes() > self._settings.idle_base_bytes:
            self.close()

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.close()
        self._process = None
        self._idle_since = None


class ResidentJob:
    """A light job at work in a resident process."""

    def __init__(self, process: ResidentProcess, order_path: Path, reading: int) -> None:
        self._process = process
        self._order_path = order_path
        self._reader = ProgressReader(reading, process.describe_end)

    @property
    def pid(self) -> int:
        """Process id of the resident child."""
        return self._process.pid

    def next_progress(self, timeout_s: float) -> Progress | None:
        """Return the next message, None when none came in time. Raises `ChildCrashed` when the process has ended."""
        return self._reader.next_progress(timeout_s)

    def ask_to_stop(self) -> None:
        """Ask the job to stop at a checkpoint."""
        self._process.ask(ResidentRequest(act="stop", order_path=self._order_path))

    def hold(self, *, is_held: bool) -> None:
        """Let the job stand still, or go on."""
        self._process.hold(self._order_path, is_held=is_held)

    def close(self) -> None:
        """Give the job up; if it is still at work, it ends at its next step, while the others go on."""
        self._process.ask(ResidentRequest(act="drop", order_path=self._order_path))
        self._process.leave(self._order_path)
