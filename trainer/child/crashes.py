"""The crashes of a job's children, by the files that its worker leaves in the folders of its attempts."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from trainer.checkpoints import ATTEMPTS

ORDERLY: Final = "orderly"
"""File in the folder of an attempt that its worker ended; attempts without the file count as crashes."""
SHARED: Final = "shared"
"""File in the folder of an attempt that ran in one process with other jobs. Without `ORDERLY` it does not count as a
crash, which another job may have caused, but from then on the job runs in a process of its own."""


def count_crashes(job_folder: Path) -> int:
    """Count the attempts that no worker ended, among those in processes of their own."""
    attempts = job_folder.glob(ATTEMPTS)
    return sum(not any((folder / mark).exists() for mark in (ORDERLY, SHARED)) for folder in attempts)


def crashed_beside_others(job_folder: Path) -> bool:
    """Return whether an attempt came to no orderly end in a process that other jobs used too."""
    return any(not (mark.parent / ORDERLY).exists() for mark in job_folder.glob(f"{ATTEMPTS}/{SHARED}"))
