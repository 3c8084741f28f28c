"""The worker claims one job after another and makes an attempt at each."""

from __future__ import annotations

import logging
import math
import os
import socket
import time
from threading import Event
from typing import Final

from registry.database import Registry
from registry.disk import Liveness
from registry.errors import NotFound, RegistryUnavailable, StorageFull
from registry.jobs.scheduling.room import ANY_ROOM, Room
from registry.publishing.unused_folders import discard_checkpoints, discard_uploads
from trainer.attempt import Attempt
from trainer.checkpoints import remove_checkpoints
from trainer.settings import TrainerSettings

log = logging.getLogger(__name__)

_LONGEST_PAUSE_S: Final = 30.0
_DISCARD_EVERY_S: Final = 10.0


def worker_name() -> str:
    """Return host and process id: no two live workers have the same name."""
    return f"{socket.gethostname()}-{os.getpid()}"


class Worker:
    """Works on one job at a time; several jobs at once need several workers.

    Call it from the main thread: the kernel kills children when the thread that started them ends.
    """

    def __init__(self, registry: Registry, settings: TrainerSettings, name: str, liveness: Liveness) -> None:
        self._registry = registry
        self._settings = settings
        self._name = name
        self._liveness = liveness
        self._away_at = -math.inf
        """When the registry did not answer last; monotonic."""
        self._discarded_at = -math.inf
        self._swept = False

    def run(self, stop: Event) -> None:
        """Work until *stop* is set; the current job then stops at a checkpoint and goes back into the queue."""
        log.info("worker ready", extra={"worker": self._name})
        pause_s = self._settings.poll_s
        while not stop.is_set():
            try:
                self._sweep_at_start()
                busy = self.work_once(stop)
            except RegistryUnavailable as exc:
                self._away_at = time.monotonic()
                log.warning("the registry does not answer", extra={"error": str(exc)})
                busy = False
            except Exception:  # outermost loop of this process; the lease of the current job runs out
                log.exception("an attempt failed unexpectedly")
                stop.wait(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
                continue
            pause_s = self._settings.poll_s
            self._liveness.beat()
            self._discard_checkpoints()
            if not busy:
                stop.wait(self._settings.poll_s)
        log.info("worker stopped", extra={"worker": self._name})

    def _discard_checkpoints(self) -> None:
        """Remove the bytes of retired checkpoints, at most every `_DISCARD_EVERY_S` seconds."""
        if time.monotonic() - self._discarded_at < _DISCARD_EVERY_S:
            return
        self._discarded_at = time.monotonic()
        try:
            discard_checkpoints(self._registry)
        except (RegistryUnavailable, StorageFull) as exc:
            log.warning("retired checkpoints not removed", extra={"error": str(exc)})

    def work_once(self, stop: Event, room: Room = ANY_ROOM) -> bool:
        """Make an attempt at the first queued job that *room* can hold and return True; False without one."""
        # While the database was away, no worker could renew a lease; all get the time to do so again.
        if time.monotonic() - self._away_at > self._settings.lease_s:
            for job_id in self._registry.jobs.expire_leases():
                log.warning("a worker stopped renewing its lease", extra={"job": job_id})
        lease = self._registry.jobs.claim(self._name, self._settings.lease_s, room)
        if lease is None:
            return False
        self.sweep()
        Attempt(self._registry, self._settings, lease, stop, self._liveness).run()
        discard_uploads(self._registry)
        return True

    def _sweep_at_start(self) -> None:
        """Remove what a worker left that was killed right after the end of its job: no further job may come."""
        if not self._swept:
            self.sweep()
            self._swept = True

    def sweep(self) -> None:
        """Remove checkpoints and uploads of jobs that were cancelled while they waited, or whose worker died."""
        discard_uploads(self._registry)
        for folder in self._settings.work.glob("*job-*"):
            try:
                ended = self._registry.jobs.get(folder.name).state.is_terminal
            except NotFound:
                continue  # a job of another registry that shares the folder
            if ended:
                remove_checkpoints(folder)
