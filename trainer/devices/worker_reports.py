"""A worker's reports to the registry: that it is there, and how large its device is."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Final

from registry.database import Registry
from registry.errors import RegistryError
from registry.jobs.scheduling.room import TrainerWorker
from trainer.devices.job_device import JobDevice

log = logging.getLogger(__name__)

REPORT_EVERY_S: Final = 5.0


@contextmanager
def reporting(registry: Registry, name: str, device: JobDevice) -> Iterator[None]:
    """Report the worker before the block, and from a thread of its own until it ends; then the registry forgets it."""
    stop = Event()
    worker = TrainerWorker(name=name, device=device.name, total_bytes=device.total_bytes)

    def report() -> None:
        try:
            registry.workers.report(worker)
        except RegistryError as exc:  # the next report comes soon
            log.warning("the worker's report was not stored", extra={"error": str(exc)})

    def report_on() -> None:
        while not stop.wait(REPORT_EVERY_S):
            report()

    report()  # a worker that claims before its first report would take jobs for which its device has no room
    thread = Thread(target=report_on, name="worker-reports")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        try:
            registry.workers.leave(name)
        except RegistryError as exc:  # its silence is noticed
            log.warning("the worker could not sign off", extra={"error": str(exc)})
