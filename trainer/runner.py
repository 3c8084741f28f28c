"""Start a training child, read its progress, stop it."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
from threading import Thread
from typing import Final

from graders.grade import Models
from registry.contracts.job_spec import JobSpec
from trainer.child_environment import child_environment
from trainer.errors import ChildCrashed
from trainer.model_requests import ModelRequests
from trainer.order import ChildOrder
from trainer.progress import Progress, parse_progress

LOG_LINES: Final = 5
GRACE_S: Final = 10.0
"""How long a child that was killed, or closed its pipe, may take to end."""


class TrainingChild:
    """A child process at work on one order, in a process group of its own."""

    def __init__(self, order: ChildOrder[JobSpec], models: Models | None = None) -> None:
        """Start the child, which may ask *models*. Its output goes to `child.log` in the attempt's folder."""
        self._requests = None if models is None else ModelRequests(models, order.spec.asked_models())
        passed = () if self._requests is None else (self._requests.childs.fileno(),)
        order = order.model_copy(update={"model_requests": next(iter(passed), None)})
        self._log = order.attempt_folder / "child.log"
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        order_path = order.attempt_folder / "order.json"
        order_path.write_text(order.model_dump_json())
        reading, writing = os.pipe()
        try:
            with self._log.open("ab") as output:
                self._process = subprocess.Popen(
                    # `-P`: with `-m` alone Python would look in the current folder first, which may be a checkout too.
                    [sys.executable, "-P", "-m", "trainer.child", str(order_path), str(writing)],
                    env=child_environment(os.environ, order.threads, asks_ray=order.ray_address is not None),
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
        if self._requests is not None:
            self._requests.start()
        # A thread empties the pipe all the time: a child must not block on it while the worker waits for the registry.
        self._reader = Thread(target=self._read, args=(reading,), name="training-child", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Process id of the child."""
        return self._process.pid

    def next_progress(self, timeout_s: float) -> Progress | None:
        """Return the next message, None when none came in time. Raises `ChildCrashed` when the child has ended."""
        try:
            line = self._lines.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if line is None:
            raise ChildCrashed(self._describe_end())
        return parse_progress(line)

    def ask_to_stop(self) -> None:
        """Ask the child to stop at a checkpoint; it reports `RecipeStopped`, or just ends if it has not begun."""
        self._process.terminate()

    def close(self) -> None:
        """Kill what still runs of the child's process group, and wait for its end."""
        with contextlib.suppress(ProcessLookupError):  # the whole group had ended
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(timeout=GRACE_S)
        self._reader.join(timeout=GRACE_S)

    def _read(self, descriptor: int) -> None:
        with os.fdopen(descriptor, "rb") as lines:
            for line in lines:
                if line.endswith(b"\n"):  # a child that was killed may leave half a line
                    self._lines.put(line)
        self._lines.put(None)

    def _describe_end(self) -> str:
        code = self._process.wait(timeout=GRACE_S)
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        lines = self._log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        shown = f"; its last output: {' | '.join(line.strip() for line in lines)}" if lines else ""
        memory = " (the machine may have run out of memory)" if code == -signal.SIGKILL else ""
        return f"the training process {how}{memory}{shown}"
