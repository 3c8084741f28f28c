"""Whatever a machine does to a job, the job ends in a state that says what happened."""

from __future__ import annotations

import errno
import resource
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from registry.database import Registry
from registry.errors import TrainingFileInvalid
from registry.jobs.job import Job
from registry.jobs.job_state import JobState
from tests.trainer.attempts import LONG, TIMEOUT_S, MakeJob, suspended, working
from trainer.errors import JobFailed
from trainer.faults import failure_of
from trainer.settings import TrainerSettings

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
        (RuntimeError("basic_ios::clear: iostream error"), "storage_full", "iostream"),
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
