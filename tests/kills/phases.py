"""The phase of a running job, read from its folder and its processes, so that kills meet every phase."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Final

from registry.contracts.publish_spec import PublishSpec
from trainer.checkpoints import ATTEMPTS, CHECKPOINTS, SEAL


class Phase(StrEnum):
    """The phases that a kill may interrupt."""

    WAITING = "waiting"  # no job runs, or a worker has just claimed one
    ENCODING = "encoding"  # the child loads libraries, reads the rows and takes its first steps
    TRAINING = "training"  # there is a whole checkpoint
    CHECKPOINTING = "checkpointing"  # there is one without its seal
    FINISHING = "finishing"  # the child writes the result and its fingerprint
    PROVING = "proving"  # the child of a publish job makes the fingerprint of an upload
    PUBLISHING = "publishing"  # the child has ended, and the worker copies its result into the registry


AIMED_AT: Final = tuple(phase for phase in Phase if phase is not Phase.WAITING)
CHILD: Final = b"trainer.child"
FORK: Final = "training-fork"
"""Name of the processes that tests fork in place of training children."""


def phase_of(jobs: Path, worker_pid: int) -> Phase:
    """Return the phase of the worker's job, whose folder is the one in *jobs* that changed last."""
    attempts = sorted(jobs.glob(f"*/{ATTEMPTS}"), key=_changed_at)
    if not attempts:
        return Phase.WAITING
    attempt = attempts[-1]
    has_result = any((attempt / name).exists() for name in ("trained", "final"))
    if not any(training_children(worker_pid)):
        return Phase.PUBLISHING if has_result else Phase.WAITING
    if attempt.parent.name.startswith(PublishSpec.id_prefix):
        return Phase.PROVING
    if has_result:
        return Phase.FINISHING
    checkpoints = [*attempt.glob(CHECKPOINTS)]
    if not all((folder / SEAL).exists() for folder in checkpoints):
        return Phase.CHECKPOINTING
    return Phase.TRAINING if checkpoints else Phase.ENCODING


def training_children(pid: int) -> Iterator[int]:
    """Yield the training processes below the process *pid*, several where a job has several.

    Read from `/proc` as it is, since looking through all processes takes longer than some phases.
    """
    for child in _children(pid):
        with suppress(OSError):
            program = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
            if CHILD in program or Path(f"/proc/{child}/comm").read_text().strip() == FORK:
                yield child
        yield from training_children(child)


def _children(pid: int) -> list[int]:
    """Return the children of all threads of a process."""
    found: list[int] = []
    with suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (thread / "children").read_text().split())
    return found


def _changed_at(folder: Path) -> float:
    with suppress(OSError):
        return folder.stat().st_mtime
    return 0.0
