"""The further processes of a child whose job is trained by several: the child is the first, and the only one to report.

All of them are in the process group that the worker kills, and the kernel ends them with the first.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Final

from pydantic import ValidationError

from trainer.errors import JobFailed
from trainer.progress import RecipeFailed

log = logging.getLogger(__name__)

PARENT: Final = "LORRY_FIRST_PROCESS"
"""Variable with the process id of the child; only its further processes have it."""
LOOK_S: Final = 0.2
SETTLES_S: Final = 3.0
"""How long the first process waits, after an error of its own, for the end of another one to show."""
ENDS_WITHIN_S: Final = 60.0
"""How long it waits where the error says that the connection to another process broke."""
LOST_PEER: Final = ("gloo", "Connection closed by peer", "Connection reset by peer", "NCCL")
UNKNOWN: Final = "trainer_error"


class FurtherRanks:
    """The processes beside the first one, at work on the same order."""

    def __init__(self, order_path: Path, attempt_folder: Path, size: int) -> None:
        """Start them, and make this process the first of *size*."""
        os.environ.update(_rank_variables(0, size))
        self._folder = attempt_folder
        self._processes = [self._start(order_path, rank, size) for rank in range(1, size)]

    def watch(self, report: Callable[[RecipeFailed], None]) -> None:
        """From now on end this process when another one fails: it would wait for that one for ever."""
        Thread(target=self._watch, args=(report,), name="ranks", daemon=True).start()

    @contextmanager
    def blamed(self) -> Iterator[None]:
        """In the block an error may come of the end of another process, which is then what the job reports."""
        try:
            yield
        except JobFailed:
            raise
        except Exception as exc:
            # Unless the watch ends this process meanwhile, the error is its own.
            time.sleep(ENDS_WITHIN_S if any(mark in str(exc) for mark in LOST_PEER) else SETTLES_S)
            raise

    def _watch(self, report: Callable[[RecipeFailed], None]) -> None:
        while not any(self._failed()):
            time.sleep(LOOK_S)
        time.sleep(LOOK_S)  # one that was killed takes others with it, and is the cause
        failed = self._failed()
        killed = [(rank, code) for rank, code in failed if code < 0]
        reasons = [reason for rank, _ in failed if (reason := read_failure(self._folder, rank)) is not None]
        if killed or not reasons:
            log.error("process %s of the job ended with %s", *(killed or failed)[0])
            os._exit(1)
        report(min(reasons, key=lambda reason: reason.code == UNKNOWN))
        os._exit(0)

    def _failed(self) -> list[tuple[int, int]]:
        """Return rank and exit code of the processes that ended with a fault."""
        codes = ((rank, process.poll()) for rank, process in enumerate(self._processes, start=1))
        return [(rank, code) for rank, code in codes if code]

    def _start(self, order_path: Path, rank: int, size: int) -> subprocess.Popen[bytes]:
        environment = os.environ | _rank_variables(rank, size) | {PARENT: str(os.getpid())}
        with open(os.devnull, "wb") as nothing:
            return subprocess.Popen(
                # `-P`: with `-m` alone Python would look in the current folder first, which may be a checkout too.
                [sys.executable, "-P", "-m", "trainer.child", str(order_path), str(nothing.fileno())],
                env=environment,
                pass_fds=(nothing.fileno(),),
                stdin=subprocess.DEVNULL,
            )


def parent_of(environment: Mapping[str, str], worker_pid: int) -> int:
    """Return the process that this one must not outlive: the first of its job, or for that one the worker."""
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


def _rank_variables(rank: int, size: int) -> dict[str, str]:
    """Return the variables by which torch and accelerate know a process of one machine."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "GLOO_SOCKET_IFNAME": "lo",
    }
