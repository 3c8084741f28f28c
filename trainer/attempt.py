"""An attempt at a job by the worker that holds its lease, from the claim to an end, a release or a lost lease."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event
from typing import TypeVar

from registry.artifacts import held
from registry.database import Registry
from registry.disk import FULL_ERRNOS, Liveness
from registry.errors import LeaseLost, RegistryError, RegistryUnavailable, StaleState, StorageFull
from registry.jobs.job import Job, JobError, Lease
from registry.jobs.job_phase import JobPhase
from registry.jobs.job_state import JobState
from trainer.checkpoints import remove_checkpoints
from trainer.child.crashes import ORDERLY, SHARED, count_crashes
from trainer.devices.local_engines import local_load
from trainer.errors import ChildCrashed, JobFailed
from trainer.hand_over import FinishedJob
from trainer.lease_keeper import renewed
from trainer.model_requests import gateway_models
from trainer.prepare import AttemptFolders, PreparedJob, prepare
from trainer.progress import (
    CheckpointSaved,
    Noted,
    PhaseBegan,
    Progress,
    RecipeFailed,
    RecipeFinished,
    RecipeStopped,
    RowsRead,
    Stepped,
    StepWritten,
)
from trainer.progress_writer import ProgressWriter
from trainer.publication import Publication
from trainer.runner import Child, ChildStarter
from trainer.settings import TrainerSettings

log = logging.getLogger(__name__)

Result = TypeVar("Result")


class _Cancelled(Exception):
    """Somebody asked to cancel the job."""


@dataclass(slots=True, kw_only=True)
class _Watch:
    """Deadlines and requests that the worker checks while the child works. Times are those of `time.monotonic`."""

    renew_at: float
    deadline: float
    stop_asked_at: float | None = None
    pauses: bool = False
    was_held: bool = False
    """Whether the child stood still for engines, which the job's events report once for an attempt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workplace:
    """Everything that the attempts of a worker share."""

    registry: Registry
    settings: TrainerSettings
    liveness: Liveness
    stop: Event
    """Ends each attempt at its next step once it is set, and gives its job back."""


class Attempt:
    """An attempt at a job; call `run` once."""

    def __init__(self, workplace: Workplace, lease: Lease, starter: ChildStarter) -> None:
        """Prepare the attempt, whose child *starter* starts."""
        self._registry = workplace.registry
        self._settings = workplace.settings
        self._lease = lease
        self._liveness = workplace.liveness
        self._stop = workplace.stop
        self._starter = starter
        self._job_folder = workplace.settings.work / lease.job_id
        self._folder = self._job_folder / f"attempt-{lease.attempt:04d}"
        self._progress = ProgressWriter(workplace.registry, lease)
        self._publication = Publication(registry=workplace.registry, settings=workplace.settings, lease=lease)

    def run(self) -> None:
        """Work until the job has ended, was given back or lost. Raises `RegistryUnavailable`, but only on a stop."""
        try:
            self._train_and_publish()
        except JobFailed as exc:
            error = JobError(code=exc.code, message=exc.message, param=exc.param or None)
            self._end(JobState.FAILED, error)
        except _Cancelled:
            self._end(JobState.CANCELLED)
        except OSError as exc:
            if exc.errno not in FULL_ERRNOS:
                raise
            self._end(JobState.FAILED, JobError(code="storage_full", message=f"no space was left for the job: {exc}"))
        except LeaseLost as exc:
            log.warning("lost the lease; the child is stopped", extra={"job": self._lease.job_id, "error": str(exc)})

    def _train_and_publish(self) -> None:
        # The claim gave only a lease; renewing returns the job and shows that the lease still holds.
        job = self._persist(lambda: self._registry.jobs.renew(self._lease, self._settings.lease_s))
        prepared = self._prepare(job)
        with held(self._registry.artifacts, prepared.artifacts):
            self._work(job, prepared)

    def _work(self, job: Job, prepared: PreparedJob) -> None:
        """Have a child do the job, and publish what it made."""
        order = prepared.order
        self._progress.note(
            Noted(message=f"{job.spec.noun.capitalize()} job started", data={"attempt": self._lease.attempt})
        )
        watch = _Watch(renew_at=time.monotonic(), deadline=time.monotonic() + self._settings.max_job_s)
        child = self._starter.start(order, gateway_models(order.spec, self._settings))
        log.info("child started", extra={"job": job.id, "attempt": self._lease.attempt, "child": child.pid})
        try:
            outcome = self._follow(job, child, watch)
        except ChildCrashed as exc:
            if watch.stop_asked_at is None:
                self._give_back_crashed(exc)
                return
            # A child that is asked to stop before its handler is set dies of the signal; that is not a crash.
            outcome = RecipeStopped(step=0)
        finally:
            child.close()
        if isinstance(outcome, RecipeFinished):
            self._progress.phase(JobPhase.PUBLISHING)
        # All events are written before the job ends: a client that follows a job stops reading at its end.
        while not self._progress.flush() and not self._stop.wait(self._settings.poll_s):
            pass
        match outcome:
            case RecipeFinished():
                done = FinishedJob(
                    job=job,
                    folder=order.final_folder,
                    finished=outcome,
                    files=prepared.files,
                    checkpoints_kept_s=self._settings.checkpoints_served_s,
                )
                self._publish(done)
            case RecipeStopped():
                self._give_back(watch)

    def _prepare(self, job: Job) -> PreparedJob:
        """Return the child's order; `JobFailed` if the job crashed too often or cannot be done as it was asked."""
        crashes = count_crashes(self._job_folder)
        if crashes >= self._settings.max_crashes:
            raise JobFailed(
                "trainer_crashed", f"{crashes} attempts crashed; the log of the last one is in {self._job_folder}"
            )
        folders = AttemptFolders(job=self._job_folder, attempt=self._folder)
        with renewed(self._registry.jobs, self._lease, self._settings):
            prepared = prepare(self._registry, self._settings, job, folders)
        # The folder comes last: until it has its `ORDERLY` it counts as a crash, which a failure above is not.
        self._folder.mkdir(parents=True, exist_ok=True)
        if self._starter.is_shared:
            (self._folder / SHARED).touch()
        return prepared

    def _follow(self, job: Job, child: Child, watch: _Watch) -> RecipeFinished | RecipeStopped:
        """Return the outcome; a child may still run. Raises `JobFailed`, `ChildCrashed`, `LeaseLost`, `_Cancelled`."""
        while True:
            progress = child.next_progress(max(0.0, watch.renew_at - time.monotonic()))
            match progress:
                case RecipeFailed():
                    self._progress.flush()
                    raise JobFailed(progress.code, progress.message, progress.param)
                case RecipeFinished() | RecipeStopped():
                    return progress
                case _:
                    self._note(job, progress)
            now = time.monotonic()
            # The clock decides, not the silence of the child: a child that reports steps without a pause would
            # otherwise keep the worker from renewing its lease.
            if now >= watch.renew_at:
                watch.renew_at = now + self._settings.poll_s
                self._look_after(child, watch, now)
                if job.spec.engines_go_first:
                    self._hold_for_engines(child, watch)
            # Late: `close` kills the child, and the next attempt repeats the steps since the last checkpoint.
            if watch.stop_asked_at is not None and now > watch.stop_asked_at + self._settings.stop_timeout_s:
                return RecipeStopped(step=0)

    def _note(self, job: Job, progress: Progress | None) -> None:
        """Write what the child reports on its way; None when it reported nothing."""
        match progress:
            case Noted():
                self._progress.note(progress)
            case Stepped():
                self._progress.step(progress)
            case RowsRead():
                self._progress.rows(progress)
            case PhaseBegan():
                self._progress.phase(progress.phase)
            case CheckpointSaved():
                self._progress.checkpoint(progress)
            case StepWritten():
                self._publish_step(job, progress.step)

    def _look_after(self, child: Child, watch: _Watch, now: float) -> None:
        """Renew the lease, write the progress, and act on a request to cancel, pause or stop."""
        if now > watch.deadline:
            raise JobFailed("time_limit", f"one attempt took longer than max_job_s, {self._settings.max_job_s:.0f} s")
        self._liveness.beat()
        self._progress.flush()
        try:
            job = self._registry.jobs.renew(self._lease, self._settings.lease_s)
        except (RegistryUnavailable, StorageFull) as exc:  # no other worker can claim the job meanwhile
            log.warning("lease not renewed", extra={"job": self._lease.job_id, "error": str(exc)})
            job = None
        if job is not None and job.cancel_requested:
            raise _Cancelled
        # A renewal that failed shows no flags, so a pause that was seen once stays seen.
        watch.pauses = watch.pauses or (job is not None and job.pause_requested)
        gives_way = job is not None and job.gives_way_to is not None
        if watch.stop_asked_at is None and (watch.pauses or gives_way or self._stop.is_set()):
            watch.stop_asked_at = now
            child.ask_to_stop()

    def _hold_for_engines(self, child: Child, watch: _Watch) -> None:
        """Let the child stand still while the engines of this machine have much to do; one that stops does not wait."""
        try:
            load = local_load(self._registry)
        except RegistryUnavailable:  # no longer known to have much to do
            load = 0
        limit = self._settings.engine_load_limit
        is_held = watch.stop_asked_at is None and load > limit
        child.hold(is_held=is_held)
        if is_held and not watch.was_held:
            watch.was_held = True
            message = f"The job stands still while more than {limit} requests run or wait in engines of its machine"
            self._progress.note(Noted(message=message, data={"load": load, "engine_load_limit": limit}))

    def _publish_step(self, job: Job, step: int) -> None:
        """Publish a step while the run goes on; where that cannot be now, the end of the job does it."""
        if job.spec.reproduces() is not None or not self._progress.flush():
            return
        name = self._publication.publish_step(job, self._folder, step)
        if name is not None:
            self._progress.note(Noted(message=f"The checkpoint of step {step} answers as {name}", data={"step": step}))

    def _publish(self, done: FinishedJob) -> None:
        try:
            # Copying and hashing the weights takes longer than a lease where they are large or the disk is slow.
            with renewed(self._registry.jobs, self._lease, self._settings):
                self._persist(lambda: self._publication.publish(done))
        except StaleState as exc:
            # The registry publishes nothing for a job that was asked to cancel meanwhile.
            raise _Cancelled from exc
        # Only now: until the publication is committed, another attempt may have to continue from a checkpoint.
        remove_checkpoints(self._job_folder)
        self._publication.remember_costs(done)

    def _give_back(self, watch: _Watch) -> None:
        # The mark comes first: if this worker dies before the next line, the attempt still does not count as a crash.
        (self._folder / ORDERLY).touch()
        jobs = self._registry.jobs
        self._persist(lambda: (jobs.yield_paused if watch.pauses else jobs.release)(self._lease))

    def _give_back_crashed(self, exc: ChildCrashed) -> None:
        """Leave the job to another attempt, unless the limit of crashes is reached."""
        self._progress.flush()
        # This attempt is counted too, as its folder has no `ORDERLY`.
        if count_crashes(self._job_folder) >= self._settings.max_crashes:
            raise JobFailed("trainer_crashed", str(exc)) from exc
        self._progress.note(Noted(message=f"Attempt {self._lease.attempt}: {exc}", level="warn"))
        self._progress.flush()
        self._persist(lambda: self._registry.jobs.release(self._lease))

    def _end(self, to: JobState, error: JobError | None = None) -> None:
        try:
            self._persist(lambda: self._registry.jobs.finish(self._lease, to, error), StorageFull)
        except LeaseLost as exc:
            # The job belongs to another attempt now, which may need the checkpoints.
            log.warning("lost the lease at the end", extra={"job": self._lease.job_id, "error": str(exc)})
            return
        remove_checkpoints(self._job_folder)

    def _persist(self, act: Callable[[], Result], *also: type[RegistryError]) -> Result:
        """Return the result of *act*, retried until the registry answers; `RegistryUnavailable` on a stop.

        After an error of *also* it is retried too: while the registry's disk is full nobody else can move the job.
        """
        awaited: tuple[type[RegistryError], ...] = (RegistryUnavailable, *also)
        while True:
            try:
                return act()
            except awaited:
                self._liveness.beat()
                if self._stop.wait(self._settings.poll_s):
                    raise
