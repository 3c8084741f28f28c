"""Whatever a machine does to a job, the job ends in a state that says what happened."""

from __future__ import annotations

import errno
import fcntl
import resource
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from threading import Event
from typing import Any

import psutil
import pytest

from registry.database import Registry
from registry.disk import Liveness
from registry.errors import TrainingFileInvalid
from registry.jobs.job import Job, JobState
from tests.trainer.attempts import LONG, TIMEOUT_S, MakeJob, messages, suspended, training_children, working
from tests.trainer.tiny_base import write_chats
from tests.waiting import wait_for
from trainer.errors import JobFailed
from trainer.faults import failure_of
from trainer.settings import TrainerSettings
from trainer.worker import Worker

THIS = psutil.Process()
TITLE: Any = {"filename": "chats.jsonl", "purpose": "fine-tune", "owner": "ann"}


def caused(outer: Exception, inner: Exception) -> Exception:
    outer.__cause__ = inner
    return outer


@pytest.mark.parametrize(
    ("exc", "code", "said"),
    [
        (JobFailed("diverged", "the loss is nan"), "diverged", "the loss is nan"),
        (TrainingFileInvalid("line 3"), "invalid_training_file", "line 3"),
        (OSError(errno.ENOSPC, "No space left on device"), "storage_full", "No space left"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "storage_full", "quota"),
        (OSError(errno.EFBIG, "File too large"), "storage_full", "too large"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "storage_full", "os error 28"),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576"), "storage_full", "unexpected"),
        (caused(ValueError("cannot save"), OSError(errno.ENOSPC, "full")), "storage_full", "full"),
        (MemoryError(), "out_of_memory", "smaller batch_size"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "out_of_memory", "can't allocate"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "out_of_memory", "2 GiB"),
        (OSError(errno.EIO, "Input/output error"), "trainer_error", "Input/output"),
        (KeyError("adapter"), "trainer_error", "KeyError: 'adapter'"),
    ],
)
def test_what_a_recipe_raises_becomes_a_reason(exc: Exception, code: str, said: str) -> None:
    failed = failure_of(exc)
    assert failed.code == code
    assert said in failed.message
    assert "\n" not in failed.message


def ended_after(
    registry: Registry, settings: TrainerSettings, job: Job, hurt: Callable[[psutil.Process], object]
) -> Job:
    """Hurt the child at its first checkpoint and return the job as it ended."""
    with working(registry, settings) as (attempt, _):
        with suspended(THIS, settings.work / job.id) as child:
            hurt(child)
        attempt.result(TIMEOUT_S)
    ended = registry.jobs.get(job.id)
    assert registry.snapshot().revisions == ()
    assert not list(settings.work.glob("*/*/checkpoint-*"))
    return ended


def limit(kind: int, left: int) -> Callable[[psutil.Process], object]:
    """Leave a process *left* bytes more of address space than it has, or files of so many bytes."""

    def hurt(process: psutil.Process) -> None:
        most = left + (process.memory_info().vms if kind == resource.RLIMIT_AS else 0)
        resource.prlimit(process.pid, kind, (most, most))

    return hurt


@pytest.mark.trains
@pytest.mark.parametrize(
    ("kind", "left", "code"),
    [(resource.RLIMIT_FSIZE, 4096, "storage_full"), (resource.RLIMIT_AS, 0, "out_of_memory")],
)
def test_a_child_without_space_or_memory_fails_with_that_reason(
    registry: Registry, settings: TrainerSettings, make_job: MakeJob, kind: int, left: int, code: str
) -> None:
    rows = {"max_length": 4096} if kind == resource.RLIMIT_AS else {}
    ended = ended_after(registry, settings, make_job(**LONG, **rows), limit(kind, left))
    assert ended.error is not None
    assert (ended.state, ended.error.code) == (JobState.FAILED, code), ended.error.message


@pytest.mark.trains
def test_a_data_set_or_a_base_that_changes_under_the_job_fails_it(
    registry: Registry, settings: TrainerSettings, make_job: MakeJob, tiny_base: Path
) -> None:
    job = make_job(**LONG)
    path = registry.files.path(registry.files.get(job.spec.files()["training_file"]))

    def change(_: psutil.Process) -> None:
        path.chmod(0o600)
        path.write_bytes(path.read_bytes().replace(b"answer 3", b"answer X"))

    ended = ended_after(registry, settings, job, change)
    assert ended.error is not None
    assert (ended.error.code, ended.error.param) == ("file_not_readable", "training_file")
    assert "changed while the job was running" in ended.error.message
    config = tiny_base / "generation_config.json"
    before = config.read_bytes()
    try:
        job = make_job(**LONG, training_file=registry.files.add([path.read_bytes()], **TITLE).id)
        ended = ended_after(registry, settings, job, lambda _: config.write_bytes(before + b" "))
    finally:
        config.write_bytes(before)
    assert ended.error is not None
    assert (ended.error.code, ended.error.param) == ("base_changed", "model")


@pytest.mark.trains
@pytest.mark.parametrize("state", ["queued", "paused", "starting", "training", "validating", "publishing"])
def test_a_job_can_be_cancelled_in_every_state(
    registry: Registry, settings: TrainerSettings, make_job: MakeJob, home: Path, state: str
) -> None:
    with write_chats(home / "many.jsonl", 3000).open("rb") as lines:
        many = registry.files.add(lines, **TITLE).id
    job = make_job(n_epochs=1, checkpoint_steps=1, validation_file=many if state == "validating" else None)
    if state == "paused":
        registry.jobs.request_pause(job.id)
    if state in ("queued", "paused"):
        registry.jobs.request_cancel(job.id, "ann")
    else:
        cancel_at_work(registry, settings, job, state)
    ended = registry.jobs.get(job.id)
    assert (ended.state, ended.error, ended.revision) == (JobState.CANCELLED, None, None)
    assert registry.snapshot().revisions == ()
    worker = Worker(registry, settings, "w1", Liveness(settings.work.parent, "w1"))
    assert not worker.work_once(Event()), "nobody works on it again"
    assert not list(settings.work.glob("*/*/checkpoint-*")) + list(settings.work.glob("*/*/final"))
    assert not list((home / "artifacts" / "folders").iterdir())


def cancel_at_work(registry: Registry, settings: TrainerSettings, job: Job, state: str) -> None:
    """Cancel a job that a worker has brought to *state*."""
    root = settings.work.parent / "artifacts"
    with ExitStack() as held, (root / "lock").open("w") as lock:
        attempt, _ = held.enter_context(working(registry, settings))
        wait_for(lambda: bool(training_children(THIS)), TIMEOUT_S)
        if state == "publishing":
            fcntl.flock(lock, fcntl.LOCK_EX)
        wait_for(lambda: IS_THERE[state](messages(registry, job.id)), TIMEOUT_S)
        if state == "publishing":
            wait_for(lambda: not training_children(THIS), TIMEOUT_S)
        registry.jobs.request_cancel(job.id, "ann")
        fcntl.flock(lock, fcntl.LOCK_UN)
        attempt.result(TIMEOUT_S)


IS_THERE: dict[str, Callable[[list[str]], bool]] = {
    "starting": lambda said: True,
    "training": lambda said: "Checkpoint saved at step 1" in said,
    "validating": lambda said: "Checkpoint saved at step 2" in said,
    "publishing": lambda said: any(each.startswith("Fingerprint of") for each in said),
}
"""State of a running job -> whether its events show that the job has come there; the epoch ends at step 3."""
