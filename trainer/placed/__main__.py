"""`python -m trainer.placed` gives the jobs of the queue to a Ray cluster, each to the node that has room for it.

Run one in place of workers. Settings, work folder and registry must be the same on all nodes: PostgreSQL, and a shared
file system. SIGTERM or Ctrl-C give the jobs back at their checkpoints.
"""

from __future__ import annotations

import logging
import signal
import sys
import time

from registry.disk import TRAINER, Liveness
from registry.errors import RegistryError
from trainer.devices.worker_reports import REPORT_EVERY_S
from trainer.placed.opening import OpenTrainer, opened
from trainer.placed.placer import Placer

log = logging.getLogger(__name__)


def main() -> int:
    """Place jobs until asked to stop and return the exit code; 1 when settings, registry or cluster cannot be used."""
    with opened() as trainer:
        if trainer is None:
            return 1
        if trainer.settings.ray_address is None:
            log.error("the trainer cannot start", extra={"error": "give [trainer] ray_address, or RAY_ADDRESS"})
            return 1
        from trainer.placed.ray_jobs import RayCluster  # loads Ray, which takes a second

        handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            cluster = RayCluster(trainer.settings)
        except ConnectionError as exc:
            log.error("the trainer cannot start", extra={"error": str(exc)})
            return 1
        for number, handler in handlers.items():  # Ray's own would end this process at once
            signal.signal(number, handler)
        try:
            _place(trainer, Placer(trainer.registry, cluster))
        finally:
            cluster.close()
    return 0


def _place(trainer: OpenTrainer, placer: Placer) -> None:
    liveness, reported_at = Liveness(trainer.home, TRAINER), float("-inf")
    liveness.forget()
    while not trainer.stop.wait(trainer.settings.poll_s):
        liveness.beat()
        try:
            if time.monotonic() - reported_at >= REPORT_EVERY_S:
                placer.report()
                reported_at = time.monotonic()
            for job_id in trainer.registry.jobs.expire_leases():
                log.warning("a worker stopped renewing its lease", extra={"job": job_id})
            placer.step()
        except RegistryError as exc:
            log.warning("the registry does not answer", extra={"error": str(exc)})
    for placed in placer.placed.values():
        placed.stop()
    deadline = time.monotonic() + 2 * trainer.settings.stop_timeout_s
    while time.monotonic() < deadline and not all(
        placed.has_ended() or not placed.has_begun() for placed in placer.placed.values()
    ):
        time.sleep(trainer.settings.poll_s)
    placer.leave()


if __name__ == "__main__":
    sys.exit(main())
