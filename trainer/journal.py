"""A job's story on its way into the registry; training goes on while the registry is away."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable

from registry.database import Registry
from registry.errors import RegistryUnavailable, StorageFull
from registry.jobs.job import Lease
from trainer.progress import CheckpointSaved, Noted, Stepped

log = logging.getLogger(__name__)


class Journal:
    """Entries of one attempt, written in their order as soon as the registry takes them."""

    def __init__(self, registry: Registry, lease: Lease) -> None:
        self._jobs = registry.jobs
        self._lease = lease
        self._waiting: deque[Callable[[], None]] = deque()

    def note(self, noted: Noted) -> None:
        """Add a sentence."""
        job_id = self._lease.job_id
        self._waiting.append(lambda: self._jobs.add_event(job_id, noted.message, level=noted.level, data=noted.data))

    def step(self, stepped: Stepped) -> None:
        """Add the figures of a step."""
        figures = stepped.model_dump(exclude={"kind"})
        message = f"Step {stepped.step}/{stepped.total_steps}: training loss={stepped.train_loss:.4f}"
        job_id, finish_at = self._lease.job_id, time.time() + stepped.eta_s

        def write() -> None:
            self._jobs.note_progress(self._lease, trained_tokens=stepped.tokens, estimated_finish=finish_at)
            self._jobs.add_event(job_id, message, type="metrics", data=figures)

        self._waiting.append(write)

    def checkpoint(self, saved: CheckpointSaved) -> None:
        """Add a checkpoint."""
        self._waiting.append(lambda: self._jobs.add_checkpoint(self._lease, saved.step, saved.metrics))
        self.note(Noted(message=f"Checkpoint saved at step {saved.step}", data={"step": saved.step}))

    def flush(self) -> bool:
        """Write what waits; False if the registry takes nothing now. Raises `LeaseLost`."""
        while self._waiting:
            try:
                self._waiting[0]()
            except (RegistryUnavailable, StorageFull) as exc:
                log.warning("the registry takes no progress", extra={"job": self._lease.job_id, "error": str(exc)})
                return False
            self._waiting.popleft()
        return True
