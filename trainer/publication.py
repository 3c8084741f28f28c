"""The publication of what an attempt's child has made: steps while it runs, its result and its costs at the end."""

from __future__ import annotations

import logging
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from registry.database import Registry
from registry.errors import AdapterRejected, ArtifactCorrupt, Conflict, NotFound, RegistryUnavailable, StorageFull
from registry.jobs.job import Job, Lease
from trainer.errors import JobFailed
from trainer.hand_over import FinishedJob, hand_over, hand_over_step
from trainer.lease_keeper import renewed
from trainer.settings import TrainerSettings

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """Publishes under the lease of one attempt."""

    registry: Registry
    settings: TrainerSettings
    lease: Lease

    def publish_step(self, job: Job, attempt_folder: Path, step: int) -> str | None:
        """Publish a step of the running *job* and return the name by which it answers; None if that cannot be now."""
        kept_s = self.settings.checkpoints_served_s
        try:
            with renewed(self.registry.jobs, self.lease, self.settings):
                return hand_over_step(self.registry, self.lease, job, attempt_folder, step, kept_s)
        except (RegistryUnavailable, StorageFull, AdapterRejected, ArtifactCorrupt, Conflict, NotFound) as exc:
            log.warning("step not published yet", extra={"job": job.id, "step": step, "error": str(exc)})
            return None

    def publish(self, done: FinishedJob) -> None:
        """Publish the result, which ends the job as succeeded.

        Raises `JobFailed` for a result that cannot be handed over, `StaleState` for a job that was asked to cancel
        meanwhile, `LeaseLost`, and `RegistryUnavailable`, after which it may be called again.
        """
        try:
            name = hand_over(self.registry, self.lease, done)
        except StorageFull as exc:
            raise JobFailed("storage_full", f"the result cannot be stored: {exc}") from exc
        except (AdapterRejected, ArtifactCorrupt, Conflict, NotFound) as exc:
            raise JobFailed("publish_failed", f"the result cannot be handed over: {exc}") from exc
        log.info("published", extra={"job": done.job.id, "result": name})

    def remember_costs(self, done: FinishedJob) -> None:
        """Store peak and seconds of a job that one attempt did as a whole; estimates go on without them."""
        peak = done.finished.peak_bytes
        if peak is None or self.lease.attempt > 1 or done.job.started_at is None:
            return
        seconds = time.time() - done.job.started_at
        try:
            self.registry.measurements.add_measured(done.job.id, socket.gethostname(), peak, seconds)
        except (RegistryUnavailable, StorageFull) as exc:
            log.warning("peak and time not stored", extra={"job": done.job.id, "error": str(exc)})
