"""Start a training child, read its progress, stop it."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final, Protocol

from graders.grade import Models
from registry.contracts.job_spec import JobSpec
from trainer.model_requests import ModelRequests
from trainer.order import ChildOrder
from trainer.processes.child_environment import child_environment
from trainer.progress import Progress, ProgressReader

log = logging.getLogger(__name__)

LOG_LINES: Final = 5
GRACE_S: Final = 10.0
"""How long a child that was killed, or closed its pipe, may take to end."""


class GroupHalt:
    """Suspends a process group, and lets it go on."""

    def __init__(self, leader: int) -> None:
        self._leader = leader
        self._is_held = False

    def set(self, *, is_held: bool) -> None:
        """Send a signal where the group does not stand, or run, already."""
        if is_held != self._is_held:
            self._is_held = is_held
            with contextlib.suppress(ProcessLookupError):  # the whole group has ended
                os.killpg(self._leader, signal.SIGSTOP if is_held else signal.SIGCONT)


class Child(Protocol):
    """A job at work, as its worker sees it."""

    @property
    def pid(self) -> int:
        """Process id of the child that does the job."""
        ...

    def next_progress(self, timeout_s: float) -> Progress | None:
        """Return the next message, None when none came in time. Raises `ChildCrashed` when the process has ended."""
        ...

    def ask_to_stop(self) -> None:
        """Ask the job to stop at a checkpoint."""
        ...

    def hold(self, *, is_held: bool) -> None:
        """Let the job stand still, or go on; nothing changes where it does so already."""
        ...

    def close(self) -> None:
        """End what still runs of the job."""
        ...


class ChildStarter(Protocol):
    """Where the jobs of a worker run."""

    @property
    def is_shared(self) -> bool:
        """Whether the job runs in one process with others, whose crash may not be its fault."""
        ...

    def start(self, order: ChildOrder[JobSpec], models: Models | None) -> Child:
        """Have the job begin; it may ask *models*."""
        ...


class OwnProcess:
    """Starts a process for each job."""

    is_shared: Final = False

    def __init__(self, accelerator: str | None = None) -> None:
        """Processes see the *accelerator* alone, unless a job has several; None for all that there are."""
        self._accelerator = accelerator

    def start(self, order: ChildOrder[JobSpec], models: Models | None) -> Child:
        """Start the process of a job."""
        return TrainingChild(order, models, self._accelerator if order.spec.process_count() == 1 else None)


class TrainingChild:
    """A child process at work on one order, in a process group of its own."""

    def __init__(
        self, order: ChildOrder[JobSpec], models: Models | None = None, accelerator: str | None = None
    ) -> None:
        """Start the child, which may ask *models*. Its output goes to `child.log` in the attempt's folder."""
        self._requests = None if models is None else ModelRequests(models, order.spec.asked_models())
        passed = () if self._requests is None else (self._requests.childs.fileno(),)
        order = order.model_copy(update={"model_requests": next(iter(passed), None)})
        self._log = order.attempt_folder / "child.log"
        order_path = order.attempt_folder / "order.json"
        order_path.write_text(order.model_dump_json())
        reading, writing = os.pipe()
        try:
            with self._log.open("ab") as output:
                self._process = subprocess.Popen(
                    # `-P`: with `-m` alone Python would look in the current folder first, which may be a checkout too.
                    [sys.executable, "-P", "-m", "trainer.child", str(order_path), str(writing)],
                    env=child_environment(
                        os.environ, order.threads, asks_ray=order.ray_address is not None, accelerator=accelerator
                    ),
                    pass_fds=(writing, *passed),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    # Ctrl-C in a terminal reaches the worker alone, and the child's group can be killed as a whole.
                    start_new_session=True,
                )
        except BaseException:
            os.close(reading)
            if self._requests is not None:
                self._requests.close()
            raise
        finally:
            os.close(writing)  # with our copy open, the reader would never see the end of the pipe
        self._halt = GroupHalt(self._process.pid)
        if self._requests is not None:
            self._requests.start()
        self._reader = ProgressReader(reading, self._describe_end)

    @property
    def pid(self) -> int:
        """Process id of the child."""
        return self._process.pid

    def next_progress(self, timeout_s: float) -> Progress | None:
        """Return the next message, None when none came in time. Raises `ChildCrashed` when the child has ended."""
        return self._reader.next_progress(timeout_s)

    def ask_to_stop(self) -> None:
        """Ask the child to stop at a checkpoint; it reports `RecipeStopped`, or just ends if it has not begun."""
        self._process.terminate()

    def hold(self, *, is_held: bool) -> None:
        """Suspend the child's process group, or let it go on."""
        self._halt.set(is_held=is_held)

    def close(self) -> None:
        """Kill what still runs of the child's process group, and wait for its end."""
        with contextlib.suppress(ProcessLookupError):  # the whole group had ended
            os.killpg(self._process.pid, signal.SIGKILL)
        await_end(self._process)
        self._reader.join(GRACE_S)

    def _describe_end(self) -> str:
        return described_end(self._process, self._log)


def described_end(process: subprocess.Popen[bytes], log: Path) -> str:
    """Return how a process that has closed its pipe ended, with the end of its *log*."""
    code = await_end(process)
    if code is None:
        how = "closed its pipe and has not ended yet"
    else:
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    lines = log.read_text(errors="replace").splitlines()[-LOG_LINES:]
    shown = f"; its last output: {' | '.join(line.strip() for line in lines)}" if lines else ""
    memory = " (the machine may have run out of memory)" if code == -signal.SIGKILL else ""
    return f"the training process {how}{memory}{shown}"


def await_end(process: subprocess.Popen[bytes], longest_s: float = GRACE_S) -> int | None:
    """Return the exit code of a process that was killed or is about to end; None where it takes longer.

    On a busy machine a process of low priority may wait long for the processor even to end. Nothing that this process
    does depends on it, so it is reaped later.
    """
    try:
        return process.wait(longest_s)
    except subprocess.TimeoutExpired:
        log.warning("a process has not ended yet", extra={"child": process.pid, "waited_s": longest_s})
        return None
