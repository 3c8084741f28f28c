"""`python -m trainer.child.resident DESCRIPTOR WORKER NICE AT_ONCE` carries out light jobs on one base model.

A message on the socket names an order and what to do with it; the one that begins an order comes with the descriptor on
which its job reports. AT_ONCE jobs compute at a time. The process ends when the worker closes the socket, and with the
worker, however that dies.
"""

from __future__ import annotations

import logging
import signal
import socket
import sys
from threading import Event

from trainer.child.process import go_behind, leave_out_libraries
from trainer.child.requests import LONGEST_REQUEST, ResidentRequest
from trainer.processes.death import die_with


def main() -> int:
    """Carry out orders until the worker closes the socket; return the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(threadName)s %(name)s %(message)s")
    control = socket.socket(fileno=int(sys.argv[1]))
    die_with(int(sys.argv[2]))
    stop = Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the worker, which asks its jobs to stop
    go_behind(int(sys.argv[3]))
    leave_out_libraries(frozenset())
    # Here, as libraries have to be left out before they are looked for.
    from trainer.child.resident_jobs import ResidentJobs

    jobs = ResidentJobs(stop, int(sys.argv[4]))
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, LONGEST_REQUEST, 1)
        if not message:
            return 0
        jobs.obey(ResidentRequest.model_validate_json(message), descriptors)


if __name__ == "__main__":
    sys.exit(main())
