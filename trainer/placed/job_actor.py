"""The actor of a job. Ray pickles a class by its module's name, and imports this module alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping

import ray


def node_worker(node_id: str) -> str:
    """Return the name of the worker that stands for a node."""
    return f"ray-{node_id[:12]}"


class JobActor:
    """Has the place of one job on a node, and runs the worker that makes the attempt."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._is_stopped = False

    def node(self) -> str:
        """Return the node's id, as soon as Ray has placed the actor."""
        return str(ray.get_runtime_context().get_node_id())

    def run(self, job_id: str, variables: Mapping[str, str]) -> int:
        """Return the exit code of a worker that makes one attempt at the job."""
        command = [sys.executable, "-P", "-m", "trainer.placed.one_job", job_id, node_worker(self.node())]
        if self._is_stopped:
            return 0
        self._process = subprocess.Popen([*command, str(os.getpid())], env=os.environ | dict(variables))
        return self._process.wait()

    def stop(self) -> None:
        """Have the job stop at its next step and go back into the queue."""
        self._is_stopped = True
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
