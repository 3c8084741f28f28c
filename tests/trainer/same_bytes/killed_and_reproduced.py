"""A job that was killed and continued, and a reproduction of it in another process, compared byte for byte."""

from __future__ import annotations

from typing import Protocol

import psutil

from registry.contracts.reproductions.reproduction_report import REPORT, ReproductionReport
from registry.database import Registry
from registry.jobs.job import Job
from registry.jobs.job_state import JobState
from registry.publishing.reproductions import queue_reproduction
from tests.kills.asked import Trained
from tests.trainer.attempts import TIMEOUT_S, messages, queue, suspended, work, working
from tests.trainer.forks.forked_children import ForkedChildren, KilledForks, make_attempt
from trainer.settings import TrainerSettings

THIS = psutil.Process()


class Attempts(Protocol):
    """How the attempts at the compared jobs are made."""

    def kill_one(self, registry: Registry, settings: TrainerSettings, job: Job) -> None:
        """Make an attempt at *job* whose child is killed after its first checkpoint."""
        ...

    def make(self, registry: Registry, settings: TrainerSettings) -> None:
        """Make an attempt at the first job of the queue, to its end."""
        ...


class ByWorkers:
    """Attempts by workers, which start a process for each job, or for the light jobs of a base model."""

    def kill_one(self, registry: Registry, settings: TrainerSettings, job: Job) -> None:
        """Make an attempt at *job* whose child is killed after its first checkpoint."""
        with working(registry, settings) as (attempt, _):
            with suspended(THIS, settings.work / job.id) as child:
                child.kill()
            attempt.result(TIMEOUT_S)

    def make(self, registry: Registry, settings: TrainerSettings) -> None:
        """Make an attempt at the first job of the queue, to its end."""
        work(registry, settings)


class InForks:
    """Attempts in forks of two processes, so that what is compared was computed in memory of two layouts."""

    def __init__(self, first: ForkedChildren, second: ForkedChildren) -> None:
        self._first = first
        self._following = [second, first]

    def kill_one(self, registry: Registry, settings: TrainerSettings, job: Job) -> None:
        """Make an attempt at *job* whose child is killed after its first checkpoint."""
        make_attempt(registry, settings, KilledForks(self._first))

    def make(self, registry: Registry, settings: TrainerSettings) -> None:
        """Make an attempt at the first job of the queue, to its end."""
        self._following.pop(0).work(registry, settings)


def assert_same_bytes(registry: Registry, settings: TrainerSettings, kind: Trained, attempts: Attempts) -> None:
    """Kill the child of a job of *kind* after its first checkpoint, let another go on, and run the spec once more."""
    job = queue(registry, kind)
    attempts.kill_one(registry, settings, job)
    attempts.make(registry, settings)
    ended = registry.jobs.get(job.id)
    assert (ended.state, ended.attempt) == (JobState.SUCCEEDED, 2), ended.error
    assert any("Continuing from the checkpoint of step" in said for said in messages(registry, job.id))
    result = f"{kind.name}@{ended.revision}" if ended.revision is not None else str(ended.fine_tuned_model)
    again = queue_reproduction(registry, result, "ann")
    attempts.make(registry, settings)
    assert registry.jobs.get(again.id).state is JobState.SUCCEEDED, registry.jobs.get(again.id).error
    report = report_of(registry, again)
    assert report.same_bytes, (report.verdict, report.differing_files)
    assert (report.losses.differing, report.losses.missing, report.facts) == (0, 0, []), report
    assert report.losses.compared > 0


def report_of(registry: Registry, job: Job) -> ReproductionReport:
    """Return the report of a reproduction."""
    (found,) = (event.data[REPORT] for event in registry.jobs.events(job.id, limit=1000) if REPORT in event.data)
    return ReproductionReport.model_validate(found)
