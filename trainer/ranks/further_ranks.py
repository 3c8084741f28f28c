"""The processes beside the first one of a job: the child is the first, and the only one to report.

All of them end with the first. If one of them is lost, the first one ends, and the next attempt continues.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Final, Protocol

from trainer.errors import JobFailed
from trainer.progress import RecipeFailed
from trainer.ranks.rank_process import read_failure

log = logging.getLogger(__name__)

LOOK_S: Final = 0.2
SETTLES_S: Final = 3.0
"""How long the first process waits, after an error of its own, for the end of another one to show."""
ENDS_WITHIN_S: Final = 60.0
"""How long it waits where the error is that the connection to another process broke."""
LOST_PEER: Final = ("gloo", "Connection closed by peer", "Connection reset by peer", "NCCL")
UNKNOWN: Final = "trainer_error"


class StartedRank(Protocol):
    """A further process, wherever it runs."""

    def poll(self) -> int | None:
        """Return its exit code, negative if it was killed or lost; None while it runs."""
        ...


class FurtherRanks:
    """The processes beside the first one, at work on the same order."""

    def __init__(self, ranks: Sequence[StartedRank], attempt_folder: Path) -> None:
        """*ranks* have the numbers from 1, in their order."""
        self._folder = attempt_folder
        self._ranks = ranks

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
        codes = ((rank, process.poll()) for rank, process in enumerate(self._ranks, start=1))
        return [(rank, code) for rank, code in codes if code]
