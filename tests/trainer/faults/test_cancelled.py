"""A job is cancelled in whatever it is busy with, and leaves nothing behind."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event

import psutil
import pytest

from registry.database import Registry
from registry.disk import Liveness
from registry.errors import IllegalMove
from registry.jobs.job import Job
from registry.jobs.job_state import JobState
from registry.publishing.publications import Upload, queue_publication
from tests.engines.random_adapter import write_adapter
from tests.kills.asked import sampled
from tests.kills.phases import Phase, phase_of, training_children
from tests.trainer.attempts import TIMEOUT_S, MakeJob, queue, working
from tests.trainer.forks.forked_children import ForkedChildren
from tests.waiting import wait_for
from trainer.checkpoints import WEIGHTS
from trainer.settings import TrainerSettings
from trainer.worker import Worker

pytestmark = pytest.mark.trains

THIS = psutil.Process()
SLEEPS = "import time\n\ndef grade(sample, item):\n    time.sleep(60)\n    return 1.0\n"
SANDBOX = "bwrap"


def assert_cancelled(registry: Registry, settings: TrainerSettings, job: Job, kept: int = 0) -> None:
    """Nothing was published, nobody works on the job again, and *kept* folders are in the store."""
    ended = registry.jobs.get(job.id)
    assert (ended.state, ended.error, ended.revision) == (JobState.CANCELLED, None, None)
    assert registry.snapshot().revisions == ()
    worker = Worker(registry, settings, "w1", Liveness(settings.work.parent, "w1"))
    assert not worker.work_once(Event()), "nobody works on it again"
    assert [path for name in WEIGHTS for path in settings.work.glob(f"*/*/{name}")] == []
    root = settings.work.parent / "artifacts"
    assert len([*(root / "folders").iterdir()]) == kept
    assert [*(root / "staging").iterdir()] == []
    assert not [*training_children(THIS.pid)]
    with pytest.raises(IllegalMove):
        registry.jobs.request_cancel(job.id, "ann")


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.PAUSED])
def test_a_job_that_waits_is_cancelled_at_once(
    registry: Registry, settings: TrainerSettings, make_job: MakeJob, state: JobState
) -> None:
    job = make_job()
    if state is JobState.PAUSED:
        registry.jobs.request_pause(job.id)
    registry.jobs.request_cancel(job.id, "ann")
    assert_cancelled(registry, settings, job)


@contextmanager
def suspended_in(settings: TrainerSettings, phase: Phase) -> Iterator[None]:
    """Suspend the child while it is in *phase*."""
    children = wait_for(lambda: caught_in(settings, phase), TIMEOUT_S)
    yield
    assert not [child for child in children if child.is_running()], "a suspended child is killed, not waited for"


def caught_in(settings: TrainerSettings, phase: Phase) -> list[psutil.Process]:
    """Return the child, suspended, if it is in *phase*; else let it go on. The phase may end before it is suspended."""
    if phase_of(settings.work, THIS.pid) is not phase:
        return []
    with suppress(psutil.NoSuchProcess):
        children = [psutil.Process(pid) for pid in training_children(THIS.pid)]
        for child in children:
            child.suspend()
        if phase_of(settings.work, THIS.pid) is phase:
            return children
        for child in children:
            child.resume()
    return []


@pytest.mark.parametrize("phase", [Phase.ENCODING, Phase.TRAINING, Phase.CHECKPOINTING, Phase.FINISHING])
def test_a_job_is_cancelled_in_every_phase(
    registry: Registry, settings: TrainerSettings, forks: ForkedChildren, make_job: MakeJob, phase: Phase
) -> None:
    # Of many checkpoints one is met for certain. The end of the job comes once, and soon.
    job = make_job(n_epochs=1 if phase is Phase.FINISHING else 50, checkpoint_steps=1)
    with forks.working(registry, settings) as (attempt, _), suspended_in(settings, phase):
        registry.jobs.request_cancel(job.id, "ann")
        attempt.result(TIMEOUT_S)
    assert_cancelled(registry, settings, job)


def test_the_publication_of_an_upload_is_cancelled_while_it_is_proven(
    registry: Registry, settings: TrainerSettings, tiny_base: Path, tmp_path: Path
) -> None:
    folder = write_adapter(tmp_path / "brought", tiny_base, seed=1, rank=4, strength=0.3)
    job = queue_publication(registry, Upload(folder=folder), adapter="support", base="tiny", owner="ann")
    with working(registry, settings) as (attempt, _), suspended_in(settings, Phase.PROVING):
        registry.jobs.request_cancel(job.id, "ann")
        attempt.result(TIMEOUT_S)
    assert_cancelled(registry, settings, job)


def test_a_job_is_cancelled_while_its_worker_publishes(
    registry: Registry, settings: TrainerSettings, make_job: MakeJob
) -> None:
    job = make_job(n_epochs=1)
    path = settings.work.parent / "artifacts" / "lock"
    with path.open("w") as lock, working(registry, settings) as (attempt, _):
        wait_for(lambda: [*training_children(THIS.pid)], TIMEOUT_S)
        fcntl.flock(lock, fcntl.LOCK_EX)  # the worker waits for it before it copies the result
        wait_for(lambda: phase_of(settings.work, THIS.pid) is Phase.PUBLISHING, TIMEOUT_S)
        registry.jobs.request_cancel(job.id, "ann")
        fcntl.flock(lock, fcntl.LOCK_UN)
        attempt.result(TIMEOUT_S)
    assert_cancelled(registry, settings, job)


def test_a_job_is_cancelled_while_its_grader_hangs_and_the_grader_ends_with_it(
    registry: Registry, settings: TrainerSettings, forks: ForkedChildren
) -> None:
    job = queue(registry, sampled("slow", "reinforcement", {"type": "python", "name": "slow", "source": SLEEPS}))
    with forks.working(registry, settings) as (attempt, _):
        (child,) = wait_for(lambda: [*training_children(THIS.pid)], TIMEOUT_S)
        graders = wait_for(lambda: sandboxes(child), TIMEOUT_S)
        registry.jobs.request_cancel(job.id, "ann")
        attempt.result(TIMEOUT_S)
    wait_for(lambda: not any(grader.is_running() for grader in graders), TIMEOUT_S)
    assert_cancelled(registry, settings, job)


def sandboxes(child: int) -> list[psutil.Process]:
    """Return the processes of the sandbox in which a sample is graded at this moment."""
    found = []
    for each in psutil.Process(child).children(recursive=True):
        with suppress(psutil.Error):  # some live for milliseconds
            if each.name().startswith(SANDBOX):
                found.append(each)
    return found
