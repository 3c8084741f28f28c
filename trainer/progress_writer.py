"""Writes an attempt's progress into the registry; training continues while the registry is away."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable

from registry.database import Registry
from registry.errors import RegistryUnavailable, StorageFull
from registry.jobs.job import Lease
from registry.jobs.job_moves import JobNote, new_event_id
from registry.jobs.job_phase import JobPhase
from trainer.progress import CheckpointSaved, Noted, RowsRead, Stepped

log = logging.getLogger(__name__)


class ProgressWriter:
    """Entries of one attempt in their order; each is kept in memory until the registry accepts it."""

    def __init__(self, registry: Registry, lease: Lease) -> None:
        self._jobs = registry.jobs
        self._lease = lease
        self._waiting: deque[Callable[[], None]] = deque()
        self._has_stepped = False

    def note(self, noted: Noted) -> None:
        """Queue an event with a message."""
        note, event_id = JobNote(message=noted.message, level=noted.level, data=noted.data), new_event_id()
        self._waiting.append(lambda: self._jobs.add_event(self._lease, event_id, note))

    def step(self, stepped: Stepped) -> None:
        """Queue the figures of a step; those of the first one are written at once, as people wait for them.

        Raises `LeaseLost`.
        """
        figures = stepped.model_dump(exclude={"kind", "figures"}) | dict(stepped.figures)
        message = f"Step {stepped.step}/{stepped.total_steps}: training loss={stepped.train_loss:.4f}"
        if "valid_loss" in stepped.figures:
            message += f", validation loss={stepped.figures['valid_loss']:.4f}"
        # The estimate counts from now, not from the moment when the registry accepts it.
        finish_at, event_id = time.time() + stepped.eta_s, new_event_id()
        note = JobNote(message=message, type="metrics", data=figures)

        def write() -> None:
            self._jobs.note_progress(self._lease, trained_tokens=stepped.tokens, estimated_finish=finish_at)
            self._jobs.add_event(self._lease, event_id, note)

        self._waiting.append(write)
        if not self._has_stepped:
            self._has_stepped = True
            self.flush()

    def rows(self, read: RowsRead) -> None:
        """Queue the counts of rows that do not fit, and their event."""
        self._waiting.append(lambda: self._jobs.note_unfit_rows(self._lease, read.field, read.unfit))
        self.note(Noted(message=read.unfit.sentence(read.field), level="warn", data=read.unfit.model_dump(mode="json")))

    def phase(self, phase: JobPhase) -> None:
        """Queue that the job is in *phase* from now on."""
        at = time.time()
        self._waiting.append(lambda: self._jobs.enter_phase(self._lease, phase, at))

    def checkpoint(self, saved: CheckpointSaved) -> None:
        """Queue a checkpoint and its event."""
        self._waiting.append(lambda: self._jobs.add_checkpoint(self._lease, saved.step, saved.metrics))
        self.note(Noted(message=f"Checkpoint saved at step {saved.step}", data={"step": saved.step}))

    def flush(self) -> bool:
        """Write all queued entries and return True; False while the registry accepts nothing. Raises `LeaseLost`."""
        # An entry leaves the queue only after it was written: a failed write is repeated, and the order is kept.
        while self._waiting:
            try:
                self._waiting[0]()
            except (RegistryUnavailable, StorageFull) as exc:
                log.warning("the registry takes no progress", extra={"job": self._lease.job_id, "error": str(exc)})
                return False
            self._waiting.popleft()
        return True
