"""The lease of a job whose worker is busy with something that takes long and does not look at the time."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

from registry.errors import LeaseLost, RegistryError
from registry.jobs.job import Lease
from registry.jobs.job_store import JobStore
from trainer.settings import TrainerSettings

log = logging.getLogger(__name__)


@contextmanager
def renewed(jobs: JobStore, lease: Lease, settings: TrainerSettings) -> Iterator[None]:
    """Renew the lease every `poll_s` while the block runs, which learns from its own calls if the lease is lost."""
    over = Event()

    def renew() -> None:
        while not over.wait(settings.poll_s):
            try:
                jobs.renew(lease, settings.lease_s)
            except LeaseLost:
                return  # also after the block itself has ended the job
            except RegistryError as exc:
                log.warning("lease not renewed", extra={"job": lease.job_id, "error": str(exc)})

    renewing = Thread(target=renew, name="lease", daemon=True)
    renewing.start()
    try:
        yield
    finally:
        over.set()
        renewing.join()
