"""The worker claims jobs and makes an attempt at each, at light ones on the same base model side by side."""

from __future__ import annotations

import logging
import math
import os
import time
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import Final

from registry.database import Registry
from registry.disk import Liveness
from registry.errors import NotFound, RegistryUnavailable, StorageFull
from registry.jobs.job import Job, Lease
from registry.jobs.scheduling.room import ANY_ROOM, Room
from registry.liveness.host_name import host_name
from registry.publishing.unused_folders import discard_checkpoints, discard_uploads
from trainer.attempt import Attempt, Workplace
from trainer.checkpoints import remove_checkpoints
from trainer.child.crashes import crashed_beside_others
from trainer.devices.local_engines import niceness
from trainer.resident_process import KeptBase
from trainer.runner import OwnProcess
from trainer.settings import TrainerSettings

log = logging.getLogger(__name__)

_LONGEST_PAUSE_S: Final = 30.0
_DISCARD_EVERY_S: Final = 10.0
_JOINED_FOR_S: Final = 600.0
"""For so long light jobs may join without a pause; then those at work end, so that no other job waits for ever."""


def worker_name(home: Path) -> str:
    """Return host and process id: no two live workers have the same name."""
    return f"{host_name(home)}-{os.getpid()}"


class Worker:
    """Works on one job at a time, or on several light ones that train the same base model in one process.

    Call it from a thread that stays: the kernel kills children when the thread that started them ends.
    """

    def __init__(
        self,
        registry: Registry,
        settings: TrainerSettings,
        name: str,
        liveness: Liveness,
        accelerator: str | None = None,
    ) -> None:
        """Jobs of one process see the *accelerator* alone; None for all that there are."""
        self._registry = registry
        self._settings = settings
        self._name = name
        self._liveness = liveness
        self._kept = KeptBase(settings, accelerator)
        self._accelerator = accelerator
        self._beside: list[Thread] = []
        """The attempts at light jobs."""
        self._alone_at = -math.inf
        """When no light job was at work last; monotonic."""
        self._away_at = -math.inf
        """When the registry did not answer last; monotonic."""
        self._discarded_at = -math.inf
        self._swept = False
        self._gone = set[str]()
        """Uploads that were found to be removed."""

    def run(self, stop: Event) -> None:
        """Work until *stop* is set; the current jobs then stop at a checkpoint and go back into the queue."""
        log.info("worker ready", extra={"worker": self._name})
        pause_s = self._settings.poll_s
        while not stop.is_set():
            try:
                self._sweep_at_start()
                busy = self._begin_next(stop)
            except RegistryUnavailable as exc:
                self._note_away(exc)
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
        self._end_jobs()
        log.info("worker stopped", extra={"worker": self._name})

    def work_once(self, stop: Event, room: Room = ANY_ROOM) -> bool:
        """Make an attempt, to its end, at the first queued job that *room* can hold, and return True; False without."""
        begun = self._begin_next(stop, room)
        self._end_jobs()
        return begun

    def _end_jobs(self) -> None:
        """Wait for the attempts beside each other, and end the process that they used."""
        for attempt in self._beside:
            attempt.join()
        self._kept.close()

    def _discard_checkpoints(self) -> None:
        """Remove the bytes of retired checkpoints, at most every `_DISCARD_EVERY_S` seconds."""
        if time.monotonic() - self._discarded_at < _DISCARD_EVERY_S:
            return
        self._discarded_at = time.monotonic()
        try:
            discard_checkpoints(self._registry)
        except (RegistryUnavailable, StorageFull) as exc:
            log.warning("retired checkpoints not removed", extra={"error": str(exc)})

    def _begin_next(self, stop: Event, room: Room = ANY_ROOM) -> bool:
        """Claim a job and begin it; return False when there is none. Returns at the end of a job that is not light."""
        self._beside = [attempt for attempt in self._beside if attempt.is_alive()]
        if not self._beside:
            self._kept.rest(time.monotonic())
            self._alone_at = time.monotonic()
        elif not self._takes_more():
            return False
        # While the database was away, no worker could renew a lease; all get the time to do so again.
        if time.monotonic() - self._away_at > self._settings.lease_s:
            for job_id in self._registry.jobs.expire_leases():
                log.warning("a worker stopped renewing its lease", extra={"job": job_id})
        lease = self._registry.jobs.claim(self._name, self._settings.lease_s, self._left_of(room))
        if lease is None:
            return False
        self.sweep()
        self._begin(self._registry.jobs.get(lease.job_id), lease, stop)
        return True

    def _takes_more(self) -> bool:
        """Whether another light job may come beside those that are at work."""
        is_recent = time.monotonic() - self._alone_at < _JOINED_FOR_S
        # Without a digest the process has just crashed, and its jobs are about to end.
        return is_recent and len(self._beside) < self._settings.light_jobs and self._kept.digest is not None

    def _left_of(self, room: Room) -> Room:
        """Return *room* with the base model that is in memory, for its light jobs alone while some are at work."""
        digest = self._kept.digest
        resident = frozenset() if digest is None else frozenset({digest})
        return replace(room, resident=resident, beside=digest if self._beside else None)

    def _begin(self, job: Job, lease: Lease, stop: Event) -> None:
        workplace = Workplace(registry=self._registry, settings=self._settings, liveness=self._liveness, stop=stop)
        has_crashed = crashed_beside_others(self._settings.work / job.id)
        is_shared = job.spec.is_light() and self._settings.light_jobs > 1 and not has_crashed
        if not is_shared and not self._beside:
            self._kept.close()  # its memory is for this job
            Attempt(workplace, lease, OwnProcess(self._accelerator)).run()
            discard_uploads(self._registry, self._gone)
            return
        nice = niceness(self._registry, self._settings, job.spec)
        starter = self._kept.process_for(job.spec.base_digest, nice) if is_shared else OwnProcess(self._accelerator)
        attempt = Thread(target=self._attempt, args=(Attempt(workplace, lease, starter),), name=job.id)
        self._beside.append(attempt)
        attempt.start()

    def _attempt(self, attempt: Attempt) -> None:
        try:
            attempt.run()
            discard_uploads(self._registry, self._gone)
        except RegistryUnavailable as exc:
            self._note_away(exc)
        except Exception:  # outermost frame of this thread; the lease of the job runs out
            log.exception("an attempt failed unexpectedly")

    def _note_away(self, exc: RegistryUnavailable) -> None:
        self._away_at = time.monotonic()
        log.warning("the registry does not answer", extra={"error": str(exc)})

    def _sweep_at_start(self) -> None:
        """Remove what a worker left that was killed right after the end of its job: no further job may come."""
        if not self._swept:
            self.sweep()
            self._swept = True

    def sweep(self) -> None:
        """Remove checkpoints and uploads of jobs that were cancelled while they waited, or whose worker died."""
        discard_uploads(self._registry, self._gone)
        for folder in self._settings.work.glob("*job-*"):
            try:
                ended = self._registry.jobs.get(folder.name).state.is_terminal
            except NotFound:
                continue  # a job of another registry that shares the folder
            if ended:
                remove_checkpoints(folder)
