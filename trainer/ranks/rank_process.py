"""A further process of a job: how it starts, what it is given of its place, and how it leaves the reason of a fault."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Final

from pydantic import ValidationError

from trainer.progress import RecipeFailed

PARENT: Final = "LORRY_FIRST_PROCESS"
"""Variable with the process id that a further process must not outlive; only these have it."""


def start_rank(
    order_path: Path, environment: Mapping[str, str], output: IO[Any] | None = None
) -> subprocess.Popen[bytes]:
    """Start a process at work on an order, which ends with this one; *environment* has its `rank_variables`.

    *output* takes what it writes; None for where this process writes to.
    """
    with open(os.devnull, "wb") as nothing:
        return subprocess.Popen(
            # `-P`: with `-m` alone Python would look in the current folder first, which may be a checkout too.
            [sys.executable, "-P", "-m", "trainer.child", str(order_path), str(nothing.fileno())],
            env=dict(environment) | {PARENT: str(os.getpid())},
            pass_fds=(nothing.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )


def rank_variables(rank: int, size: int) -> dict[str, str]:
    """Return the variables by which torch and accelerate know process *rank* of *size* on one machine."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "GLOO_SOCKET_IFNAME": "lo",
    }


def parent_of(environment: Mapping[str, str], worker_pid: int) -> int:
    """Return the process that this one must not outlive: the one that started it, which the worker is for the first."""
    return int(environment.get(PARENT, worker_pid))


def is_first(environment: Mapping[str, str]) -> bool:
    """Whether this process is the child that the worker started."""
    return PARENT not in environment


def write_failure(folder: Path, rank: int, failed: RecipeFailed) -> None:
    """Leave the reason of a further process for the first one to report."""
    (folder / f"rank-{rank}.json").write_text(failed.model_dump_json())


def read_failure(folder: Path, rank: int) -> RecipeFailed | None:
    """Return the reason that a further process left; None if it was killed."""
    try:
        return RecipeFailed.model_validate_json((folder / f"rank-{rank}.json").read_bytes())
    except (OSError, ValidationError):
        return None
