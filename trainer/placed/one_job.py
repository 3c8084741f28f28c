"""`python -m trainer.placed.one_job JOB WORKER PARENT` makes one attempt at a job, as the worker of that name.

The process stops at a checkpoint when PARENT, the actor that has the job's place, ends in whatever way.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from typing import Final

from registry.disk import TRAINER, Liveness
from registry.jobs.scheduling.room import Room
from trainer.placed.opening import opened
from trainer.worker import Worker

PR_SET_PDEATHSIG: Final = 1


def main(words: Sequence[str]) -> int:
    """Make the attempt, if the job still waits, and return the exit code."""
    job_id, name, parent = words
    with opened() as trainer:
        if trainer is None:
            return 1
        # After the handler: a signal before it would end this process without a checkpoint, but also without a job.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() == int(parent):
            worker = Worker(trainer.registry, trainer.settings, name, Liveness(trainer.home, TRAINER))
            worker.work_once(trainer.stop, Room(only=job_id))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
