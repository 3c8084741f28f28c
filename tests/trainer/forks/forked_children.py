"""Training children as forks of one process, for tests that run many jobs and not the start of a process."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event, Thread
from typing import Final

import psutil

from graders.grade import Models
from registry.contracts.job_spec import JobSpec
from registry.database import Registry
from registry.disk import Liveness
from tests.trainer.forks.fork_request import ForkRequest
from trainer.attempt import Attempt, Workplace
from trainer.order import ChildOrder
from trainer.processes.child_environment import child_environment
from trainer.progress import CheckpointSaved, Progress, ProgressReader, parse_progress
from trainer.runner import Child, ChildStarter, GroupHalt, OwnProcess
from trainer.settings import TrainerSettings

STARTS_WITHIN_S: Final = 300.0
LEAST_PIPE: Final = 4096


class ForkedChildren:
    """A `ChildStarter` whose children are forks of one process."""

    is_shared: Final = False

    def __init__(self) -> None:
        """Start the process. Call it from a thread that stays: the process ends with the thread that started it."""
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.settimeout(STARTS_WITHIN_S)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.trainer.forks.fork_program", str(theirs.fileno()), str(os.getpid())],
                env=child_environment(os.environ, threads=1),
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
            )

    @property
    def process(self) -> psutil.Process:
        """The process of which the children are forks, as a worker is that of its children."""
        return psutil.Process(self._process.pid)

    def work(self, registry: Registry, settings: TrainerSettings) -> None:
        """Make an attempt at the first job of the queue as a worker does, to its end."""
        make_attempt(registry, settings, self)

    @contextlib.contextmanager
    def working(self, registry: Registry, settings: TrainerSettings) -> Iterator[tuple[Future[None], Event]]:
        """Make an attempt at the first job of the queue beside the block; setting the event asks it to stop."""
        stop = Event()
        with ThreadPoolExecutor(1) as pool:
            attempt = pool.submit(make_attempt, registry, settings, self, stop)
            try:
                yield attempt, stop
            finally:
                stop.set()

    def start(self, order: ChildOrder[JobSpec], models: Models | None) -> Child:
        """Have a fork begin with the order; a job that needs an optional library, which forks lack, gets a process."""
        return OwnProcess().start(order, models) if order.spec.libraries() else self.fork(order, models)

    def fork(
        self, order: ChildOrder[JobSpec], models: Models | None, *, is_killed_at_checkpoint: bool = False
    ) -> ForkedChild:
        """Have a fork begin with the order."""
        assert models is None, "a fork has no way to models"
        path = order.attempt_folder / "order.json"
        path.write_text(order.model_copy(update={"worker_pid": self._process.pid}).model_dump_json())
        request = ForkRequest(order_path=path, log=order.attempt_folder / "child.log")
        reading, writing = os.pipe()
        if is_killed_at_checkpoint:
            # A few messages fill the least pipe that there is, so that the fork cannot end before it is killed.
            fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, LEAST_PIPE)
        try:
            socket.send_fds(self._control, [request.model_dump_json().encode()], [writing])
        finally:
            os.close(writing)
        pid = int(self._control.recv(64))
        return ForkedChild(pid, killed_at_checkpoint(pid, reading) if is_killed_at_checkpoint else reading)

    def close(self) -> None:
        """End the process, and with it every fork."""
        self._control.close()
        self._process.kill()
        self._process.wait()


@dataclass(frozen=True, slots=True)
class KilledForks:
    """A `ChildStarter` whose children are killed when they have reported a checkpoint."""

    forks: ForkedChildren
    is_shared: bool = False

    def start(self, order: ChildOrder[JobSpec], models: Models | None) -> ForkedChild:
        """Have a fork begin with the order."""
        return self.forks.fork(order, models, is_killed_at_checkpoint=True)


class ForkedChild:
    """A fork at work on one order, in a process group of its own."""

    def __init__(self, pid: int, reading: int) -> None:
        self._process = psutil.Process(pid)
        self._halt = GroupHalt(pid)
        self._reader = ProgressReader(reading, lambda: "the fork has ended")

    @property
    def pid(self) -> int:
        """Process id of the fork."""
        return self._process.pid

    def next_progress(self, timeout_s: float) -> Progress | None:
        """Return the next message, None when none came in time. Raises `ChildCrashed` when the fork has ended."""
        return self._reader.next_progress(timeout_s)

    def ask_to_stop(self) -> None:
        """Ask the fork to stop at a checkpoint."""
        self._process.terminate()

    def hold(self, *, is_held: bool) -> None:
        """Suspend the fork's process group, or let it go on."""
        self._halt.set(is_held=is_held)

    def close(self) -> None:
        """Kill what still runs of the fork's process group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._reader.join(STARTS_WITHIN_S)


def killed_at_checkpoint(pid: int, reading: int) -> int:
    """Kill the fork when it reports a checkpoint; return a pipe with all that it has reported."""
    end, writing = os.pipe()

    def pass_on() -> None:
        with open(reading, "rb") as lines, open(writing, "wb", buffering=0) as others:
            is_alive = True
            for line in lines:  # after the kill too: what the fork has reported of later steps is in the pipe
                if is_alive and isinstance(parse_progress(line), CheckpointSaved):
                    os.kill(pid, signal.SIGKILL)
                    is_alive = False
                others.write(line)

    Thread(target=pass_on, daemon=True).start()
    return end


def make_attempt(
    registry: Registry, settings: TrainerSettings, starter: ChildStarter, stop: Event | None = None
) -> None:
    """Make an attempt at the first job of the queue as a worker does, to its end, by a child of *starter*."""
    lease = registry.jobs.claim("w1", settings.lease_s)
    assert lease is not None
    liveness = Liveness(settings.work.parent, "w1")
    place = Workplace(registry=registry, settings=settings, liveness=liveness, stop=stop or Event())
    Attempt(place, lease, starter).run()
